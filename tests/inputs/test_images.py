"""Images of a stranger: the size is compared before anything is decoded, and only known formats are opened."""

from __future__ import annotations

import struct
import time
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from wavespeed_runner.inputs import limits
from wavespeed_runner.inputs.files import InputError
from wavespeed_runner.inputs.images import count_pixels, damage_as_input_error, decode_image
from wavespeed_runner.inputs.png_texts import has_png_text
from wavespeed_runner.media.images import read_png


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def png(width: int, height: int, *, text: bytes = b"") -> bytes:
    """A PNG of this size whose pixels, all of one colour, are compressed to almost nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (3 * min(width, 20_000) + 1) * 100, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + text + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(16385, 16384), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (2, 2**28)])
def test_a_large_image_is_refused_before_it_is_decoded(size: tuple[int, int]) -> None:
    began = time.monotonic()
    with pytest.raises(InputError, match="pixels"):
        decode_image(png(*size))
    assert time.monotonic() - began < 1


@pytest.mark.parametrize(("depth", "colour", "fits"), [(16, 6, False), (16, 2, False), (8, 6, False), (8, 2, True)])
def test_bytes_count_and_not_sides_alone(monkeypatch: pytest.MonkeyPatch, depth: int, colour: int, fits: bool) -> None:
    """16 bits a channel and transparency: nearly three times as much memory for as many pixels."""
    monkeypatch.setattr(limits, "MAX_PIXELS", 64 * 64)
    monkeypatch.setattr(limits, "MAX_DECODED_BYTES", 3 * 64 * 64)
    row = b"\0" * (1 + 64 * {2: 3, 6: 4}[colour] * depth // 8)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 64, 64, depth, colour, 0, 0, 0))
    content = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row * 64)) + chunk(b"IEND", b"")
    if fits:
        assert decode_image(content).size == (64, 64)
        return
    with pytest.raises(InputError, match=r"^\d+ bytes of pixels, and at most 12288 are decoded; save it with 8 bits"):
        decode_image(content)


def test_a_jpeg_is_not_gone_over_thousands_of_times() -> None:
    """Each scan of a progressive JPEG changes all of its pixels, and takes some bytes."""
    buffer = BytesIO()
    Image.new("L", (4000, 4000)).save(buffer, "JPEG", progressive=True)
    content = buffer.getvalue()
    assert decode_image(content).size == (4000, 4000)
    scan = content[content.rfind(b"\xff\xda") : -2]
    began = time.monotonic()
    with pytest.raises(InputError, match=r"^3\d\d\d scans of 4000 x 4000 pixels would take too long"):
        decode_image(content[:-2] + 3000 * scan + content[-2:])
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


def test_an_image_as_large_as_ours_may_be_is_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow's own limit is lower, and stays as it is for others. (A small one, because a large one takes seconds.)"""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode_image(encode(Image.new("RGB", (40, 30)), "PNG")).size == (40, 30)
    assert Image.MAX_IMAGE_PIXELS == 10
    assert limits.MAX_PIXELS == 16384**2


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


BROKEN = {
    "an EXIF that is cut off": png(4, 4, text=chunk(b"eXIf", b"II+\0\xcf\0")),
    "an empty profile after the pixels": png(4, 4)[:-12] + chunk(b"iCCP", b"") + png(4, 4)[-12:],
    "an empty palette": png(4, 4, text=chunk(b"PLTE", b"") + chunk(b"tRNS", b"")),
    "a physical size that is cut off": png(4, 4, text=chunk(b"pHYs", b"x")),
    "a colour space that is cut off": png(4, 4, text=chunk(b"cHRM", b"x")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_part_of_an_image_is_damage_and_no_error_of_python(name: str) -> None:
    for upright in (True, False):
        with suppress(InputError):
            decode_image(BROKEN[name], upright=upright)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(
        [b"eXIf", b"iCCP", b"PLTE", b"tRNS", b"pHYs", b"cHRM", b"zTXt", b"iTXt", b"fcTL", b"acTL", b"fdAT"]
    ),
    st.binary(max_size=20) | st.binary(max_size=12).map(lambda b: b"II*\0\x08\0\0\0" + b),
    st.booleans(),
)
def test_any_part_of_an_image_is_read_or_refused(name: bytes, data: bytes, after: bool) -> None:
    whole, part = png(4, 4), chunk(name, data)
    content = whole[:-12] + part + whole[-12:] if after else png(4, 4, text=part)
    with suppress(InputError), damage_as_input_error():
        decode_image(content, upright=True).convert("RGBA").convert("RGB")


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


def test_the_caller_may_have_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    decode_image(png(4, 4), most=16)
    monkeypatch.setattr(Image.Image, "load", no_decoding)
    with pytest.raises(InputError, match="5 x 4 pixels, and at most 16 are decoded, as of 4 x 4; scale it down first"):
        decode_image(png(5, 4), most=16)


def no_decoding(*_: Any) -> Any:
    raise AssertionError("decoded")


def test_pixels_are_counted_without_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image.Image, "load", no_decoding)
    assert count_pixels(png(16384, 16384)) == limits.MAX_PIXELS
    with pytest.raises(InputError):
        count_pixels(b"x")


def test_a_text_is_found_before_and_behind_the_pixels() -> None:
    text = chunk(b"iTXt", b"mine\0\0\0\0\0{}")
    assert has_png_text(png(4, 4, text=text), "mine") and has_png_text(png(4, 4)[:-12] + text + png(4, 4)[-12:], "mine")
    assert not has_png_text(png(4, 4, text=text), "min") and not has_png_text(png(4, 4), "mine")
    with pytest.raises(InputError, match="two texts named mine"):
        has_png_text(png(4, 4, text=text)[:-12] + text + png(4, 4)[-12:], "mine")
    assert not has_png_text(png(4, 4)[:20] + b"\xff" * 20, "mine") and has_png_text(b"no PNG", "mine")
