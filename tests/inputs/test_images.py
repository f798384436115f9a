"""Images of a stranger: the size is compared before anything is decoded, and only known formats are opened."""

from __future__ import annotations

import struct
import time
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from wavespeed_runner.inputs.files import InputError
from wavespeed_runner.inputs.images import decode_image
from wavespeed_runner.media.images import read_png


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(width: int, height: int, *, text: bytes = b"") -> bytes:
    """A PNG of this size whose pixels, all of one colour, are compressed to almost nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (3 * min(width, 20_000) + 1) * 100, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(8193, 8192), (13_000, 13_000), (2**31 - 1, 2**31 - 1), (1, 2**27)])
def test_a_large_image_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="pixels"):
        decode_image(png(*size))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("format_", ["BMP", "GIF", "TIFF", "PPM", "ICO"])
def test_other_formats_are_not_opened(format_: str) -> None:
    buffer = BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, format_)
    with pytest.raises(InputError, match="not an image that can be read"):
        decode_image(buffer.getvalue())


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
def test_known_formats_are_what_pillow_decodes(format_: str) -> None:
    buffer = BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, format_)
    with Image.open(BytesIO(buffer.getvalue())) as theirs:
        assert np.array_equal(np.asarray(decode_image(buffer.getvalue())), np.asarray(theirs))


@pytest.mark.parametrize("content", [b"", b"x", png(4, 4)[:40], b"%PDF-1.7", b"<svg/>"])
def test_what_is_no_whole_image_is_refused(content: bytes) -> None:
    with pytest.raises(InputError):
        decode_image(content)


def test_text_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    bomb = zlib.compress(b"x" * 300_000_000, 9)
    texts = b"".join(chunk(b"zTXt", b"key%d\0\0" % i + bomb) for i in range(3))
    (tmp_path / "x.png").write_bytes(png(4, 4, text=texts))
    began = time.monotonic()
    with pytest.raises(InputError):
        read_png(tmp_path / "x.png")
    assert time.monotonic() - began < 2
