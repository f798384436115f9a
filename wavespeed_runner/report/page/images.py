"""The images that the page holds: scaled down, each once, as data URIs, and no more of them than a browser likes."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

SIDES = ((300, 512), (1500, 320), (4000, 224))
"""Up to how many images the page holds, how long the longer side of each is at most, in pixels."""
SMALLEST = 128
"""That of still more images; all of them are then stored with losses."""
BUDGET = 24 * 2**20
"""Most characters of all data URIs together."""
QUALITY, EFFORT = 85, {"quality": 30, "method": 2}
"""WebP: of images that are scaled down, and how hard the others are packed without loss."""
FORMATS = ("PNG", "WEBP", "JPEG")


@dataclass(kw_only=True)
class Album:
    """Collects images in the order in which they matter."""

    side: int
    """Of the longer edge, at most, in pixels."""
    lossless: bool
    """Images that need no scaling are kept to the bit."""
    uris: list[str] = field(default_factory=list)
    left_out: int = 0
    """Images for which there was no room."""
    shrunk: int = 0
    """Images that are smaller on the page than in their file."""
    unreadable: int = 0
    _places: dict[str, int | None] = field(default_factory=dict)
    _spent: int = 0

    def add(self, path: Path | None) -> int | None:
        """The image's place in `uris`; None: there is no file, it is no image, or there is no room."""
        if path is None:
            return None
        raw = path.read_bytes()
        digest = hashlib.sha256(raw).hexdigest()
        if digest not in self._places:
            self._places[digest] = self._place(raw)
        return self._places[digest]

    def _place(self, raw: bytes) -> int | None:
        from PIL import Image

        if self._spent >= BUDGET:
            self.left_out += 1
            return None
        try:
            uri = self._encoded(raw)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow on what is no image
            self.unreadable += 1
            return None
        if self._spent + len(uri) > BUDGET:
            self._spent = BUDGET  # from here on none: no gaps that depend on how well an image packs
            self.left_out += 1
            return None
        self._spent += len(uri)
        self.uris.append(uri)
        return len(self.uris) - 1

    def _encoded(self, raw: bytes) -> str:
        from PIL import Image

        with Image.open(BytesIO(raw), formats=FORMATS) as opened:
            image = opened.convert("RGB")
        options: dict[str, Any] = {"quality": QUALITY}
        if max(image.size) > self.side:
            image.thumbnail((self.side, self.side), Image.Resampling.LANCZOS)
            self.shrunk += 1
        elif self.lossless:
            options = {"lossless": True, **EFFORT}
        buffer = BytesIO()
        image.save(buffer, "WEBP", **options)
        return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def album(count: int) -> Album:
    """An empty one, for about this many images."""
    side = next((side for most, side in SIDES if count <= most), SMALLEST)
    return Album(side=side, lossless=count <= SIDES[-1][0])


def within(home: Path, name: str) -> Path | None:
    """The file of that name below a folder. A record is a stranger's text: what it names elsewhere is not read."""
    try:
        path = home / name
        return path if path.resolve().is_relative_to(home.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # no name of a file: too long, or with a zero byte
        return None


def still(file: str) -> str:
    """The image of a sample: its file, or the sheet of frames that lies beside a video."""
    return file.removesuffix(".mp4") + ".png" if file.endswith(".mp4") else file
