"""Draws the contact sheet: one image with a grid of images, captions and notes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .images import check_image

if TYPE_CHECKING:
    import PIL.Image
    import PIL.ImageFont

    from .images import ImageArray

CELL = 256
"""Largest side of an image on the sheet, in pixels."""
COLUMNS = 8
"""The most images side by side."""
INK, QUIET, LINE = "#1c1c1c", "#707070", "#d4d4d4"
"""Colours of captions, of notes, and of the lines around images."""
MARGIN, GAP = 36, 20
TEXT, LEADING = 17, 21
"""Font size and line height, in pixels."""
MAX_CAPTION_LINES = 3
GLYPHS = frozenset(map(chr, range(32, 127))) | frozenset("«»°±·‘’“”…™")  # noqa: RUF001
"""What Pillow's built-in font can draw."""


def draw_contact_sheet(
    rows: Sequence[tuple[str, Sequence[ImageArray]]],
    columns: Sequence[str],
    *,
    notes: Sequence[Sequence[str]] = (),
    most: int = COLUMNS,
) -> ImageArray:
    """Draws a contact sheet: a column for each prompt, a row for each kind of image (reference, cached, difference).

    Args:
        rows: label and images of each row, one image for each column. Small images are enlarged by a whole factor
            without smoothing, so that each pixel can be seen; images larger than 256 pixels are reduced to fit.
        columns: the captions above the columns, wrapped. The sheet says how many were left out.
        notes: for each row the lines below its images (time and SSIM), one for each column; () or "": none.
        most: columns that are drawn.

    Raises:
        ValueError: nothing to draw, or rows, columns and notes do not match.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    notes = [list(line) or [""] * len(columns) for line in notes] or [[""] * len(columns) for _ in rows]
    counts = {len(columns), *(len(images) for _, images in rows), *(len(line) for line in notes)}
    if not rows or counts != {len(columns)} or not columns or len(notes) != len(rows):
        raise ValueError(f"contact sheet: {len(rows)} rows, {len(columns)} columns, {len(notes)} notes do not match")
    shown, left_out = columns[:most], len(columns) - most
    cells = [[scale_to_cell(image) for image in images[:most]] for _, images in rows]
    width = max(180, *(cell.width for row in cells for cell in row))
    label_width: float = 24 + max(load_font(TEXT).getlength(_replace_undrawable(label)) for label, _ in rows)
    captions = [wrap_text(text, width, MAX_CAPTION_LINES) or [f"image {i}"] for i, text in enumerate(shown, 1)]

    def column_x(index: int) -> int:
        return round(MARGIN + label_width + index * (width + GAP))

    # Draw on a canvas that is high enough in any case, then crop it to the height that was drawn.
    canvas_height = sum(max(cell.height for cell in row) + 60 for row in cells) + 4 * MARGIN + 150
    canvas_width = column_x(len(shown)) - GAP + MARGIN
    canvas = Image.new("RGB", (canvas_width, canvas_height), "white")
    draw = ImageDraw.Draw(canvas)
    y = MARGIN + LEADING * max(map(len, captions)) + 8
    for index, lines in enumerate(captions):  # captions end just above the images, however many lines they have
        top = y - LEADING * len(lines) - 8
        draw.multiline_text((column_x(index), top), "\n".join(lines), INK, load_font(TEXT), spacing=3)
    for (label, _), row, line in zip(rows, cells, notes, strict=True):
        placed = [(column_x(index), cell) for index, cell in enumerate(row)]
        y = _draw_row(canvas, y, _replace_undrawable(label), placed, line)
    if left_out > 0:
        draw.text((column_x(0), y), f"{left_out} more not shown", QUIET, load_font(TEXT))
        y += LEADING + GAP
    return np.asarray(canvas.crop((0, 0, canvas_width, y - GAP + MARGIN)))


def stack_sheets(sheets: Sequence[ImageArray], *, title: str = "", note: str = "") -> ImageArray:
    """Puts sheets below one another on white.

    Args:
        sheets: at least one.
        title: above them, wrapped.
        note: below them.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    width = max(sheet.shape[1] for sheet in sheets)
    lines = wrap_text(title, width - 2 * MARGIN, MAX_CAPTION_LINES)
    top = MARGIN + LEADING * len(lines) if lines else 0
    height = top + sum(sheet.shape[0] for sheet in sheets) + (LEADING + MARGIN if note else 0)
    canvas = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(canvas)
    draw.multiline_text((MARGIN, MARGIN), "\n".join(lines), INK, load_font(TEXT), spacing=3)
    for sheet in sheets:
        canvas.paste(Image.fromarray(sheet), (0, top))
        top += sheet.shape[0]
    draw.text((MARGIN, top), _replace_undrawable(note), QUIET, load_font(TEXT))
    return np.asarray(canvas)


def _draw_row(
    canvas: PIL.Image.Image, y: int, label: str, cells: list[tuple[int, PIL.Image.Image]], notes: Sequence[str]
) -> int:
    """Draws one row: label, images and notes; returns the y below them.

    Images get a thin frame, because many have a white background.
    """
    from PIL import ImageDraw

    draw = ImageDraw.Draw(canvas)
    bottom: int = y + max(cell.height for _, cell in cells)
    draw.text((MARGIN, (y + bottom) // 2), label, INK, load_font(TEXT), anchor="lm")
    for (x, cell), note in zip(cells, notes, strict=False):
        draw.rectangle((x - 1, y - 1, x + cell.width, y + cell.height), outline=LINE)
        canvas.paste(cell, (x, y))
        draw.text((x, y + cell.height + 7), _replace_undrawable(note), QUIET, load_font(TEXT))
    return bottom + GAP + (LEADING if any(notes) else 0)


def scale_to_cell(image: ImageArray) -> PIL.Image.Image:
    """Scales an image so that its longer side fits into a cell: by a whole factor if it is smaller."""
    from PIL import Image

    check_image(image)
    pil_image = Image.fromarray(image)
    longer = max(pil_image.size)
    scale = CELL // longer if longer <= CELL else CELL / longer
    size = max(1, round(pil_image.width * scale)), max(1, round(pil_image.height * scale))
    return pil_image.resize(size, Image.Resampling.NEAREST if longer <= CELL else Image.Resampling.LANCZOS)


def load_font(size: int) -> PIL.ImageFont.ImageFont | PIL.ImageFont.FreeTypeFont:
    """Pillow's built-in font, the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size=size)


def _replace_undrawable(text: str) -> str:
    """Text that the built-in font can draw: without accents, and `?` for each run of characters without a glyph."""
    plain = unicodedata.normalize("NFKD", " ".join(text.split()).replace("\N{MULTIPLICATION SIGN}", "x"))
    plain = "".join(c for c in plain if not unicodedata.combining(c))
    return re.sub(r"\0+", "?", "".join(c if c in GLYPHS else "\0" for c in plain))


def wrap_text(text: str, width: int, max_lines: int) -> list[str]:
    """Wraps text to lines of at most `width` pixels; `…` ends the last line if more than `max_lines` are needed.

    Returns:
        The lines; [] if there is no letter or digit to draw.
    """
    text = _replace_undrawable(text)
    font, lines = load_font(TEXT), [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if not lines[-1] or font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > max_lines:
        lines[max_lines - 1 :] = [lines[max_lines - 1] + "…"]
    for index, line in enumerate(lines):
        while font.getlength(lines[index]) > width:
            lines[index] = line = line.rstrip("…")[:-1] + "…"
    return lines if any(map(str.isalnum, text)) else []
