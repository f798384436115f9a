"""Images as files: PNG with metadata, names, hashes, difference images, and the contact sheet.

An image is a uint8 numpy array of shape (height, width, 3), RGB. PIL and numpy are imported where they are used.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..storage.atomic import write_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageArray: TypeAlias = NDArray[np.uint8]

COMPRESSION = 4
"""Of PNG files, 0 to 9: above this they take longer and hardly get smaller."""
SLUG_LENGTH = 40
"""Most characters of a prompt in a file name."""
CELL, COLUMNS = 256, 8
"""The contact sheet: side of the square, in pixels, that an image is scaled to fit, and most images side by side."""
INK, QUIET, LINE = "#1c1c1c", "#707070", "#d4d4d4"
MARGIN, GAP = 36, 20
TEXT, LEADING = 17, 21
GLYPHS = frozenset(map(chr, range(32, 127))) | frozenset("«»°±·‘’“”…™")  # noqa: RUF001
"""What Pillow's built-in font can draw."""


def check_image(pixels: ImageArray, what: str = "image") -> None:
    """Raises ValueError unless it is a non-empty uint8 array of shape (height, width, 3)."""
    if pixels.dtype != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ValueError(f"{what}: uint8 (height, width, 3) wanted, got {pixels.dtype} {pixels.shape}")


def write_png(path: str | Path, pixels: ImageArray, *, metadata: Mapping[str, str]) -> str:
    """Writes a PNG, each metadata item in its own uncompressed iTXt chunk (UTF-8), before the pixels.

    The same pixels and metadata give the same bytes (for one version of Pillow and zlib): nothing in the file tells
    when it was written. The file appears whole or not at all; an existing one is replaced, a missing folder made.

    Returns:
        The file's sha256, in hex.

    Raises:
        ValueError: not an image; a key that is no PNG keyword; text that is no valid Unicode (lone surrogates).
        OSError: the folder cannot be written.
    """
    raw = _encode(pixels, metadata)
    write_whole(path, raw)
    return hashlib.sha256(raw).hexdigest()


def _encode(pixels: ImageArray, metadata: Mapping[str, str]) -> bytes:
    import numpy as np
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    check_image(pixels)
    chunks = PngInfo()
    for key, text in metadata.items():
        # PNG specification, 11.3.3.2: 1-79 Latin-1 characters, spaces only singly and inside. Ours are plain ASCII.
        if not re.fullmatch(r"(?=.{1,79}\Z)[!-~]+( [!-~]+)*", key):
            raise ValueError(f"metadata key {key!r}: 1 to 79 printable ASCII characters wanted")
        chunks.add_itxt(key, text)
    buffer = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", pnginfo=chunks)
    return buffer.getvalue()


def read_png(path: str | Path) -> tuple[ImageArray, dict[str, str]]:
    """A PNG's pixels, as 8-bit RGB, and the text chunks in it, its own or another program's.

    Raises:
        OSError: no such file, or not a whole PNG (PIL.UnidentifiedImageError is one).
    """
    import numpy as np
    from PIL import Image

    # PNG only: whatever else Pillow could decode has no business here.
    with Image.open(path, formats=["PNG"]) as image:
        pixels = np.asarray(image.convert("RGB"))
        # After the pixels, because PNG allows text behind them. str(): PIL's iTXt is a str with more to it.
        texts: dict[str, str] = {key: str(text) for key, text in getattr(image, "text", {}).items()}
    return pixels, texts


def hash_image(pixels: ImageArray) -> str:
    """Sha256, in hex, over shape and values: equal iff the images are, however their files were compressed."""
    import numpy as np

    check_image(pixels)
    digest = hashlib.sha256("x".join(map(str, pixels.shape)).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    return digest.hexdigest()


def compute_difference(image: ImageArray, reference: ImageArray, gain: float) -> ImageArray:
    """gain * |image - reference|, rounded, cut at 255; black where they agree.

    Raises:
        ValueError: different shapes, or a gain that is not a positive number.
    """
    import numpy as np

    check_image(image)
    check_image(reference, "reference")
    if image.shape != reference.shape:
        raise ValueError(f"difference of images of different shapes: {image.shape} and {reference.shape}")
    if not 0 < gain < float("inf"):
        raise ValueError(f"gain of a difference image: a positive number wanted, got {gain}")
    # In float64: uint8 would wrap around, 0 - 1 = 255.
    apart = np.abs(image.astype(np.float64) - reference.astype(np.float64))
    return np.clip(np.rint(gain * apart), 0, 255).astype(np.uint8)


def build_file_name(index: int, prompt: str, seed: int, suffix: str = ".png") -> str:
    """`00_a-red-circle-above-a-blue-square_seed0.png`: lower-case ASCII, at most 40 characters of the prompt.

    Safe on every file system and in every shell; different for every index, whatever the prompts. What ASCII cannot
    say is left out; nothing left: `00_seed0.png`. The whole prompt is in the image's metadata.
    """
    ascii_only = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", ascii_only.lower()).strip("-")
    if len(slug) > SLUG_LENGTH:
        # Whole words, unless the first one alone is too long.
        slug = slug[: SLUG_LENGTH + 1].rpartition("-")[0] or slug[:SLUG_LENGTH]
    return "_".join(part for part in (f"{index:02d}", slug, f"seed{seed}{suffix}") if part)


def draw_contact_sheet(
    rows: Sequence[tuple[str, Sequence[ImageArray]]],
    columns: Sequence[str],
    *,
    notes: Sequence[Sequence[str]] = (),
) -> ImageArray:
    """One contact sheet: a column a prompt, a row a kind of image (reference, with cache, difference).

    Args:
        rows: label and images, as many as there are columns. Small images are enlarged by a whole factor without
            smoothing, so that each pixel can be seen; larger ones than 256 pixels are reduced to fit.
        columns: the captions above, wrapped; at most 8 columns are shown, and the sheet says how many were left out.
        notes: for each row the lines under its images (time and SSIM), as many as columns; () or "": none.

    Raises:
        ValueError: nothing to show, or rows, columns and notes that do not match.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    notes = [list(line) or [""] * len(columns) for line in notes] or [[""] * len(columns) for _ in rows]
    counts = {len(columns), *(len(cells) for _, cells in rows), *(len(line) for line in notes)}
    if not rows or counts != {len(columns)} or not columns or len(notes) != len(rows):
        raise ValueError(f"overview: {len(rows)} rows, {len(columns)} columns, {len(notes)} notes do not match")
    shown, left_out = columns[:COLUMNS], len(columns) - COLUMNS
    cells = [[scale_to_cell(image) for image in images[:COLUMNS]] for _, images in rows]
    width = max(180, *(cell.width for row in cells for cell in row))
    side: float = 24 + max(load_font(TEXT).getlength(_legible(label)) for label, _ in rows)
    captions = [_wrap(text, width, 3) or [f"image {i}"] for i, text in enumerate(shown, 1)]

    def column(i: int) -> int:
        return round(MARGIN + side + i * (width + GAP))

    # Drawn on a canvas that is surely high enough, then cut: the height follows from what was drawn.
    tall = sum(max(cell.height for cell in row) + 60 for row in cells) + 4 * MARGIN + 150
    wide = column(len(shown)) - GAP + MARGIN
    canvas = Image.new("RGB", (wide, tall), "white")
    draw = ImageDraw.Draw(canvas)
    y = MARGIN + LEADING * max(map(len, captions)) + 8
    for i, lines in enumerate(captions):  # they stand on the images, however many lines they have
        draw.multiline_text(
            (column(i), y - LEADING * len(lines) - 8), "\n".join(lines), INK, load_font(TEXT), spacing=3
        )
    for (label, _), row, line in zip(rows, cells, notes, strict=True):
        y = _draw_row(canvas, y, (MARGIN, _legible(label)), [(column(i), cell) for i, cell in enumerate(row)], line)
    if left_out > 0:
        draw.text((column(0), y), f"{left_out} more not shown", QUIET, load_font(TEXT))
        y += LEADING + GAP
    return np.asarray(canvas.crop((0, 0, wide, y - GAP + MARGIN)))


def _draw_row(canvas: Any, y: int, label: tuple[int, str], cells: list[tuple[int, Any]], notes: Sequence[str]) -> int:
    """Draws label, images with a hairline around them (many have a white ground) and notes; the y below them."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(canvas)
    bottom: int = y + max(cell.height for _, cell in cells)
    draw.text((label[0], (y + bottom) // 2), label[1], INK, load_font(TEXT), anchor="lm")
    for (x, cell), note in zip(cells, notes, strict=False):
        draw.rectangle((x - 1, y - 1, x + cell.width, y + cell.height), outline=LINE)
        canvas.paste(cell, (x, y))
        draw.text((x, y + cell.height + 7), _legible(note), QUIET, load_font(TEXT))
    return bottom + GAP + (LEADING if any(notes) else 0)


def scale_to_cell(pixels: ImageArray) -> Any:
    """The image as a PIL image whose longer side is at most `CELL`."""
    from PIL import Image

    check_image(pixels)
    image = Image.fromarray(pixels)
    longer = max(image.size)
    scale = CELL // longer if longer <= CELL else CELL / longer
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.NEAREST if longer <= CELL else Image.Resampling.LANCZOS)


def load_font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _legible(text: str) -> str:
    """Text as the built-in font can draw it: accents dropped, each run of what is left without a glyph as one `?`."""
    plain = unicodedata.normalize("NFKD", " ".join(text.split()).replace("\N{MULTIPLICATION SIGN}", "x"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"\0+", "?", "".join(c if c in GLYPHS else "\0" for c in plain))


def _wrap(text: str, width: int, most: int) -> list[str]:
    """Lines no wider than `width` pixels, at most `most`, the last with `…` if there is more; [] without a letter."""
    font, lines = load_font(TEXT), [""]
    for word in _legible(text).split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > most:
        lines[most - 1 :] = [lines[most - 1] + "…"]
    for i, line in enumerate(lines):
        while font.getlength(lines[i]) > width:
            lines[i] = line = line.rstrip("…")[:-1] + "…"
    return lines if any(map(str.isalnum, _legible(text))) else []
