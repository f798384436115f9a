"""`grid.png`: one image to send to somebody: the settings' images beside the reference's, with time and quality.

Where two keys were swept, the first prompt's images lie as their values do (an XY plot); else there is a row for each
setting and a column for each of a few prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..inputs.files import InputError, read_file
from ..inputs.images import count_pixels, damage_as_input_error, decode_image
from ..inputs.limits import MAX_IMAGE_BYTES, MAX_PAGE_PIXELS
from ..media.contact_sheet import draw_contact_sheet, scale_to_cell
from ..records.sample import SampleRecord
from .page.images import still, within
from .page.samples import samples_of
from .page.texts import texts, unit
from .rows import Row, Sweep

if TYPE_CHECKING:
    from ..media.images import ImageArray

ROWS, PROMPTS, VALUES = 10, 4, 8
"""Most settings and prompts, and most values of a key in an XY plot."""


def grid_png(sweep: Sweep) -> bytes | None:
    """Draws the grid and returns the PNG file; None where no images are left to draw."""
    done = _choose_alike([row for row in sweep.rows if samples_of(row)])
    opener = _Reader()
    drawn = _draw_values(sweep, done, opener)
    drawn = _draw_settings(sweep, done, opener) if drawn is None else drawn
    if drawn is None:
        return None
    from PIL import Image

    Image.fromarray(drawn).save(buffer := BytesIO(), "PNG")
    return buffer.getvalue()


def _choose_alike(done: Sequence[Row]) -> list[Row]:
    """The rows that have the prompts, seeds and reference of most rows: others' images would stand below no caption."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in done:
        subjects = tuple((sample.prompt, sample.seed) for sample in samples_of(row))
        groups.setdefault((row.compared_with, subjects), []).append(row)
    return max(groups.values(), key=len, default=[])


class _Reader:
    """Reads images of records, which are strangers' files, up to the pixels that a report decodes."""

    pixels = 0

    def read(self, path: Path | None) -> ImageArray | None:
        import numpy as np

        if path is None:
            return None
        try:
            raw = read_file(path, MAX_IMAGE_BYTES)
            self.pixels += count_pixels(raw)
            if self.pixels > MAX_PAGE_PIXELS:
                return None
            with damage_as_input_error():
                return np.asarray(scale_to_cell(np.asarray(decode_image(raw).convert("RGB"))))
        except (OSError, InputError):
            return None


def _read(opener: _Reader, row: Row, sample: SampleRecord, *, reference: bool = False) -> ImageArray | None:
    name = still(sample.file)
    return opener.read(within(row.folder, f"reference/{Path(name).name}" if reference else name))


def _describe(sweep: Sweep, row: Row) -> str:
    """`332 ms, 2.10x, SSIM 0.9974`; what is not known is left out."""
    text = texts(row, unit(sweep))
    parts = [text["time"] if row.seconds else "", text["speedup"] if row.speedup else ""]
    return ", ".join(part for part in [*parts, f"SSIM {text['ssim']}" if "ssim" in row.quality else ""] if part)


def _choose(rows: Sequence[Row]) -> list[Row]:
    """The settings that are shown: those of the front first, in the order of the sweep."""
    wanted = sorted(range(len(rows)), key=lambda place: (not rows[place].front, place))[:ROWS]
    return [rows[place] for place in sorted(wanted)]


def _draw_settings(sweep: Sweep, done: Sequence[Row], opener: _Reader) -> ImageArray | None:
    """A row for each setting, below the reference."""
    chosen = _choose(done)
    count = min((len(samples_of(row)) for row in chosen), default=0)
    places = sorted({number * count // min(count, PROMPTS) for number in range(min(count, PROMPTS))}) if count else []
    lines: list[tuple[str, list[ImageArray], list[str]]] = []
    if chosen:
        shown = [_read(opener, chosen[0], samples_of(chosen[0])[place], reference=True) for place in places]
        known = [image for image in shown if image is not None]
        if known and len(known) == len(places):
            lines.append(("reference", known, [""] * len(known)))
    for row in chosen:
        samples = [samples_of(row)[place] for place in places]
        images = [image for sample in samples if (image := _read(opener, row, sample)) is not None]
        if images and len(images) == len(places):
            lines.append((f"{row.label}: {_describe(sweep, row)}", images, [_rate(sample) for sample in samples]))
    if not lines:
        return None
    prompts = [samples_of(chosen[0])[place].prompt for place in places]
    return draw_contact_sheet(
        [(label, images) for label, images, _ in lines], prompts, notes=[notes for _, _, notes in lines]
    )


def _rate(sample: SampleRecord) -> str:
    ssim = sample.quality.ssim if sample.quality else None
    return "" if ssim is None else f"SSIM {ssim:.4f}"


def _draw_values(sweep: Sweep, done: Sequence[Row], opener: _Reader) -> ImageArray | None:
    """The first prompt's images as the values of two keys lie; None where these are not two, each with each."""
    keys = [key for key in sweep.axes if len({row.axes.get(key) for row in done}) > 1]
    if len(keys) != 2:
        return None
    across, down = (list(dict.fromkeys(row.axes.get(key) for row in done)) for key in keys)
    by_values = {tuple(row.axes.get(key) for key in keys): row for row in done}
    whole = len(done) == len(by_values) == len(across) * len(down)
    if not whole or len(across) > VALUES or len(down) > VALUES:
        return None
    rows, notes = [], []
    for y in down:
        line = [by_values[x, y] for x in across]
        images = [image for row in line if (image := _read(opener, row, samples_of(row)[0])) is not None]
        if len(images) < len(line):
            return None
        rows.append((f"{keys[1].rpartition('.')[2]} {y}", images))
        notes.append([_describe(sweep, row) for row in line])
    return draw_contact_sheet(rows, [f"{keys[0].rpartition('.')[2]} {x}" for x in across], notes=notes)
