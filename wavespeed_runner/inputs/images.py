"""Decodes image files that someone else may have written: known formats, and a size that is checked before decoding."""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING

from . import limits
from .files import InputError

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "WEBP")


def decode_image(content: bytes, formats: tuple[str, ...] = FORMATS) -> Image:
    """Decodes an image from the bytes of its file.

    Raises:
        InputError: not an image of these formats, damaged, or of more than `MAX_PIXELS`.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
            # From bytes, so that the file is closed and Pillow cannot read it again later.
            image = Image.open(BytesIO(content), formats=formats)
        width, height = image.size
        if width * height > limits.MAX_PIXELS:
            raise InputError(f"{width} x {height} pixels, and at most {limits.MAX_PIXELS} are decoded")
        image.load()
    except Image.DecompressionBombError:
        raise InputError(f"more than the {limits.MAX_PIXELS} pixels that are decoded") from None
    except Image.UnidentifiedImageError:  # its own message names a memory address
        raise InputError("not an image that can be read") from None
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError) as error:
        raise InputError(f"damaged: {error}" if str(error) else "damaged") from None
    return image
