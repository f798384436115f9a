"""Decodes image files that someone else may have written: known formats, and a size that is checked before decoding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import isqrt
from typing import TYPE_CHECKING

from . import limits
from .files import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")
START_OF_SCAN = b"\xff\xda"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def decode_image(
    content: bytes, formats: tuple[str, ...] = FORMATS, *, upright: bool = False, most: int = limits.MAX_PIXELS
) -> Image:
    """Decodes an image from the bytes of its file.

    Args:
        content: of the file.
        formats: of Pillow, that are accepted.
        upright: turn it as its EXIF orientation says.
        most: pixels that are decoded.

    Raises:
        InputError: not an image of these formats, damaged, or of more than `most` pixels or of too many bytes.
    """
    from PIL import Image, ImageOps

    with damage_as_input_error(), _allow_our_pixels():
        # From bytes, so that the file is closed and Pillow cannot read it again later.
        image = Image.open(BytesIO(content), formats=formats)
        width, height = image.size
        if width * height > most:
            raise InputError(
                f"{width} x {height} pixels, and at most {most} are decoded, as of {isqrt(most)} x {isqrt(most)}; "
                "scale it down first"
            )
        held = width * height * _count_bytes(image, content)
        if held > limits.MAX_DECODED_BYTES:
            raise InputError(
                f"{held} bytes of pixels, and at most {limits.MAX_DECODED_BYTES} are decoded; save it with 8 bits a "
                "channel and no transparency, or scale it down"
            )
        # Within a scan 0xFF stands before 0 or a restart marker, so this finds scans, and those of a thumbnail.
        # Pillow calls a JPEG with more images behind it MPO.
        if image.format in ("JPEG", "MPO"):
            scans = content.count(START_OF_SCAN)
            if width * height * scans > limits.MAX_SCANNED_PIXELS:
                raise InputError(f"{scans} scans of {width} x {height} pixels would take too long; save it again")
        image.load()
        return ImageOps.exif_transpose(image) if upright else image


def _count_bytes(image: Image, content: bytes) -> int:
    """Bytes of one pixel as the file has them. A PNG says how many bits a channel has; other formats have 8."""
    bits = content[len(PNG_SIGNATURE) + 16] if image.format == "PNG" else 8
    return len(image.getbands()) * max(bits, 8) // 8


def count_pixels(content: bytes) -> int:
    """Width x height of an image, from the bytes of its file; nothing is decoded.

    Raises:
        InputError: not an image, or its header is damaged.
    """
    from PIL import Image

    with damage_as_input_error(), _allow_our_pixels(), Image.open(BytesIO(content), formats=FORMATS) as image:
        return int(image.width * image.height)


def count_images(content: bytes) -> int:
    """How many images a file holds, by its header: above 1 for an animation, and for a JPEG with others behind it.

    Raises:
        InputError: not an image, or its header is damaged.
    """
    from PIL import Image

    with damage_as_input_error(), _allow_our_pixels(), Image.open(BytesIO(content), formats=FORMATS) as image:
        return int(getattr(image, "n_frames", 1))


@contextmanager
def damage_as_input_error() -> Iterator[None]:
    """Within it whatever Pillow stumbles over in a damaged image is an `InputError` of one line, or goes unsaid."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"more than the {limits.MAX_PIXELS} pixels that are decoded") from None
    except Image.UnidentifiedImageError:  # its own message names a memory address
        raise InputError("not an image that can be read") from None
    except Exception as error:  # Pillow's readers raise anything, struct.error and IndexError among it
        raise InputError(f"damaged: {error}" if str(error) else "damaged") from None


@contextmanager
def _allow_our_pixels() -> Iterator[None]:
    """Within it Pillow decodes images as large as ours may be; it would stop at fewer."""
    from PIL import Image

    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = limits.MAX_PIXELS
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
