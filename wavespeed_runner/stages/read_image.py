"""Reads an image, or a mask, to start from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

from ..artifacts import Images
from ..config.schema import resolve_path, top_level
from ..errors import ConfigError
from .interface import stage

FORMATS = ("PNG", "JPEG", "WEBP")


@dataclass(kw_only=True)
class ReadImageOptions:
    path: str = top_level("image")
    """A PNG, JPEG or WebP file; `pkg://package/file` for one inside an installed package."""
    width: int = top_level("width")
    height: int = top_level("height")


@dataclass(kw_only=True)
class ReadMaskOptions(ReadImageOptions):
    path: str = top_level("mask")


def _image_file(options: ReadImageOptions) -> str:
    """What is in the file, so that stored results follow it, wherever it lies."""
    return _check_file("image", options.path)


def _mask_file(options: ReadMaskOptions) -> str:
    return _check_file("mask", options.path)


@stage("read_image", options=ReadImageOptions, identity=_image_file, ignores=("path",))
def read_image(options: ReadImageOptions) -> Images:
    """One image of width x height: scaled to cover that, and cut evenly on both sides.

    It is turned as its EXIF orientation says; what is transparent in it shows white.
    """
    return _fit(options, _flatten(_open_image("image", options.path), "white", "RGB"))


@stage("read_mask", options=ReadMaskOptions, identity=_mask_file, ignores=("path",))
def read_mask(options: ReadMaskOptions) -> Images:
    """One image in shades of grey, cut as `read_image` cuts; what is transparent in it is black."""
    return _fit(options, _flatten(_open_image("mask", options.path), "black", "L"))


def _check_file(key: str, path: str) -> str:
    """Digest of the file. Reading the whole image, once, finds what is wrong with it before anything is loaded."""
    try:
        facts = resolve_path(path).stat()
    except ConfigError as error:
        raise ConfigError(f"{key}={error}") from None
    except OSError as error:
        raise ConfigError(f"{key}={path}: {error.strerror or error}; give a PNG, JPEG or WebP file") from None
    return _hash_file(key, path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _hash_file(key: str, path: str, changed: int, size: int) -> str:
    """changed and size: another file under the old name is read anew."""
    _open_image(key, path)
    return sha256(resolve_path(path).read_bytes()).hexdigest()


def _open_image(key: str, path: str) -> Any:
    from PIL import Image, ImageOps

    try:
        # From bytes: the file is closed, and Pillow cannot read it again later.
        with Image.open(BytesIO(resolve_path(path).read_bytes()), formats=FORMATS) as image:
            image.load()
            return ImageOps.exif_transpose(image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        # Pillow's own words name a memory address, or nothing.
        broken = "no image that can be read" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        what = "a folder" if Path(resolve_path(path)).is_dir() else broken
        raise ConfigError(f"{key}={path}: {what}; give a PNG, JPEG or WebP file") from None


def _flatten(image: Any, ground: str, mode: str) -> Any:
    """8 bits a channel, on a ground of one colour."""
    import numpy as np
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits: Pillow would cut them off at 255
        image = Image.fromarray((np.asarray(image, dtype=np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground), image)
    return image.convert(mode)


def _fit(options: ReadImageOptions, image: Any) -> Images:
    import numpy as np
    from PIL import Image, ImageOps

    fitted = ImageOps.fit(image, (options.width, options.height), Image.Resampling.LANCZOS)
    return Images(tensors={"images": np.asarray(fitted.convert("RGB"))[None].copy()})
