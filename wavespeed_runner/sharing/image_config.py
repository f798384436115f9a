"""Reads the config that an image or a video of a run carries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import ConfigError
from ..inputs.documents import parse_json
from ..inputs.files import read_file
from ..inputs.limits import MAX_IMAGE_BYTES
from ..inputs.png_texts import has_png_text, walk_png_texts
from ..media.images import read_png_hash
from ..media.videos import read_metadata
from ..records.new import IMAGE_KEY, PIXELS
from .other_images import describe_other_image

SUFFIXES = (".png", ".mp4")


def read_image_config(path: Path) -> tuple[dict[str, Any], str, str]:
    """The config of an image or video, unchecked; the fingerprint of that run; and the hash of the pixels.

    Raises:
        ConfigError: there is none in it, or it cannot be read; of another program's image, what was found.
    """
    is_video = path.suffix.lower() == ".mp4"
    try:
        metadata, pixels = _read_video(path) if is_video else _read_png(path)
        data = parse_json(metadata[IMAGE_KEY])
        return data["config"], data["fingerprint"], pixels
    except KeyError:
        raise ConfigError(f"{path}: {describe_other_image({} if is_video else _list_texts(path))}") from None
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not a readable image or video: {error}") from None


def _read_png(path: Path) -> tuple[dict[str, str], str]:
    """The metadata of an image, and the hash of its pixels. Without our metadata nothing is decoded."""
    if not has_png_text(read_file(path, MAX_IMAGE_BYTES), IMAGE_KEY):
        raise KeyError(IMAGE_KEY)
    pixels, metadata = read_png_hash(path)
    return metadata, pixels


def _list_texts(path: Path) -> dict[str, str]:
    return dict(walk_png_texts(read_file(path, MAX_IMAGE_BYTES)))


def _read_video(path: Path) -> tuple[dict[str, str], str]:
    """The metadata of a video, and the hash of the frames before they were encoded, which is in the metadata."""
    metadata = read_metadata(path)
    return metadata, metadata[PIXELS]
