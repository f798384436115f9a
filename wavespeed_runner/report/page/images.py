"""The images inside `report.html`: data URIs, scaled down, stored once, up to a size that browsers handle."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from ...inputs.files import InputError, is_within, read_file
from ...inputs.images import count_pixels, damage_as_input_error, decode_image
from ...inputs.limits import MAX_IMAGE_BYTES, MAX_PAGE_PIXELS

SIDES = ((300, 512), (1500, 320), (4000, 224))
"""(number of images, pixels): with up to this many images on the page, the most pixels of an image's longer side."""
SMALLEST = 128
"""Longer side with even more images, which are then all compressed with loss."""
BUDGET = 24 * 2**20
"""Most characters of all data URIs together."""
QUALITY, EFFORT = 85, {"quality": 30, "method": 2}
"""WebP options: quality of images that are scaled down, and effort of the lossless compression of the others."""


@dataclass(kw_only=True)
class Album:
    """Collects images for a page; add the most important ones first, as space is limited."""

    side: int
    """Most pixels of the longer side."""
    lossless: bool
    """Store images that need no scaling without loss."""
    uris: list[str] = field(default_factory=list)
    left_out: int = 0
    """Number of images that did not fit."""
    shrunk: int = 0
    """Number of images that are smaller on the page than in their file."""
    unreadable: int = 0
    """Number of files that are not readable images."""
    too_large: list[str] = field(default_factory=list)
    """Names of files that were not decoded, as those before them have all the pixels that are decoded for a page."""
    _pixels: int = 0
    _places: dict[str, int | None] = field(default_factory=dict)
    _spent: int = 0

    def add(self, path: Path | None) -> int | None:
        """Adds an image file, once; returns its place in `uris`.

        None without a file, if it is not a readable image, or if it does not fit.
        """
        if path is None:
            return None
        try:
            raw = read_file(path, MAX_IMAGE_BYTES)
        except (OSError, InputError):  # of another user, for example
            self.unreadable += 1
            return None
        digest = hashlib.sha256(raw).hexdigest()
        if digest not in self._places:
            self._places[digest] = self._place(raw, path.name)
        return self._places[digest]

    def _place(self, raw: bytes, name: str) -> int | None:
        if self._spent >= BUDGET:
            self.left_out += 1
            return None
        try:
            pixels = count_pixels(raw)
            if self._pixels + pixels > MAX_PAGE_PIXELS:
                self.too_large.append(name)
                return None
            self._pixels += pixels
            uri = self._encoded(raw)
        except InputError:
            self.unreadable += 1
            return None
        if self._spent + len(uri) > BUDGET:
            # Add nothing more: otherwise the compression of each image would decide which ones are missing.
            self._spent = BUDGET
            self.left_out += 1
            return None
        self._spent += len(uri)
        self.uris.append(uri)
        return len(self.uris) - 1

    def _encoded(self, raw: bytes) -> str:
        from PIL import Image

        options: dict[str, Any] = {"quality": QUALITY}
        with damage_as_input_error():
            image = decode_image(raw)
            image = image if image.mode == "RGB" else image.convert("RGB")
            if max(image.size) > self.side:
                image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
                self.shrunk += 1
            elif self.lossless:
                options = {"lossless": True, **EFFORT}
            buffer = BytesIO()
            image.save(buffer, "WEBP", **options)
        return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def album(count: int) -> Album:
    """Creates an empty album for about this many images."""
    side = next((side for most, side in SIDES if count <= most), SMALLEST)
    return Album(side=side, lossless=count <= SIDES[-1][0])


def within(home: Path, name: str) -> Path | None:
    """Returns the file of that name inside a folder, or None.

    Records are untrusted: a file that a record names outside of its folder is not read.
    """
    try:
        path = home / name
        return path if is_within(path, [home]) and path.is_file() else None
    except (OSError, ValueError):  # too long, a zero byte, links in a circle
        return None


def still(file: str) -> str:
    """Returns the name of a sample's image: its file, or the contact sheet beside a video."""
    return file.removesuffix(".mp4") + ".png" if file.endswith(".mp4") else file
