"""The stages `read_image` and `read_mask`: the image, and the mask, that a generation starts from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from ..artifacts import Images
from ..config.schema import top_level
from ..errors import ConfigError
from ..inputs.files import IMAGE, InputError, read_file, resolve_path
from ..inputs.images import count_images, damage_as_input_error, decode_image
from ..inputs.limits import MAX_INPUT_PIXELS
from .interface import stage

if TYPE_CHECKING:
    from PIL.Image import Image

BACKGROUNDS = {"image": "white", "mask": "black"}
"""Key of a file -> what its transparent parts become."""


@dataclass(kw_only=True)
class ReadImageOptions:
    """Options of `read_image`."""

    path: str = top_level("image")
    """A PNG, JPEG or WebP file; `pkg://package/file` for a file inside an installed package."""
    width: int = top_level("width")
    height: int = top_level("height")


@dataclass(kw_only=True)
class ReadMaskOptions(ReadImageOptions):
    """Options of `read_mask`."""

    path: str = top_level("mask")


class ImageContent(NamedTuple):
    """What planning knows of an image file, upright."""

    sha256: str
    size: tuple[int, int]
    """Width and height in pixels."""
    is_transparent: bool
    """Some of its pixels are, if only in part."""
    is_dark: bool
    """None of them is brighter than half of white: such a mask is black once it is rounded, as diffusers does."""


def _identify_image(options: ReadImageOptions) -> str:
    """Identifies the image by the file's content, so that stored results do not depend on where it is."""
    return inspect_image("image", options.path).sha256


def _identify_mask(options: ReadMaskOptions) -> str:
    return inspect_image("mask", options.path).sha256


@stage("read_image", options=ReadImageOptions, identity=_identify_image, ignores=("path",))
def read_image(options: ReadImageOptions) -> Images:
    """Reads an image file, scales it to cover width x height and crops it evenly on both sides.

    EXIF orientation is applied; transparent parts become white.
    """
    return _fit(options, _flatten_file("image", options.path, "RGB"))


@stage("read_mask", options=ReadMaskOptions, identity=_identify_mask, ignores=("path",))
def read_mask(options: ReadMaskOptions) -> Images:
    """Reads a mask file as a greyscale image, scaled and cropped as in `read_image`; transparent parts become black."""
    return _fit(options, _flatten_file("mask", options.path, "L"))


def measure_image(key: str, path: str) -> tuple[int, int]:
    """Width and height in pixels of an image file, upright.

    Raises:
        ConfigError: it cannot be read; `key` names it in the message.
    """
    return inspect_image(key, path).size


def count_frames(path: str) -> int:
    """Images in a file that `measure_image` has read: above 1 for an animation, or a JPEG with others behind it."""
    return _count_frames(path, resolve_path(path).stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _count_frames(path: str, modified: int) -> int:
    return count_images(read_file(resolve_path(path), IMAGE.max_bytes))


def inspect_image(key: str, path: str) -> ImageContent:
    """Reads the whole image once, so that a broken file is refused before anything is loaded. Raises `ConfigError`."""
    try:
        status = resolve_path(path).stat()
    except ConfigError as error:
        raise ConfigError(f"{key}={error}") from None
    except OSError as error:
        raise ConfigError(f"{key}={path}: {error.strerror or error}; give a PNG, JPEG or WebP file") from None
    return _inspect_file(key, path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=64)
def _inspect_file(key: str, path: str, modified: int, size: int) -> ImageContent:
    """What the file holds. A changed file is read again, because it has other arguments."""
    with _explain_damage(key, path):
        content = read_file(resolve_path(path), IMAGE.max_bytes)
        image = decode_image(content, upright=True, most=MAX_INPUT_PIXELS)
        with damage_as_input_error():
            return ImageContent(
                sha256=sha256(content).hexdigest(),
                size=image.size,
                is_transparent=image.has_transparency_data
                and any(image.convert("RGBA").getchannel("A").histogram()[:255]),
                is_dark=not any(_flatten(image, BACKGROUNDS[key], "L").histogram()[128:]),
            )


def _flatten_file(key: str, path: str, mode: str) -> Image:
    """The decoded image, upright, in 8 bits per channel, over a background of one colour."""
    with _explain_damage(key, path):
        image = decode_image(read_file(resolve_path(path), IMAGE.max_bytes), upright=True, most=MAX_INPUT_PIXELS)
        with damage_as_input_error():
            return _flatten(image, BACKGROUNDS[key], mode)


@contextmanager
def _explain_damage(key: str, path: str) -> Iterator[None]:
    """Within it an image that cannot be read is a `ConfigError`."""
    try:
        yield
    except (OSError, InputError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ConfigError(f"{key}={path}: {reason}; give a PNG, JPEG or WebP file") from None


def _flatten(image: Image, background: str, mode: str) -> Image:
    """Converts to 8 bits per channel, over a background of one colour."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, background), image)
    return image.convert(mode)


def _fit(options: ReadImageOptions, image: Image) -> Images:
    """Scales and crops an image to the size in the options."""
    import numpy as np
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(image, (options.width, options.height), Image.Resampling.LANCZOS)
    return Images(tensors={"images": np.asarray(fitted.convert("RGB"))[None].copy()})
