"""`grid.png`: one image to send to somebody: every job's images beside its reference's, with time and quality.

Where two keys were swept, the first prompt's images lie as their values do (an XY plot), each line beside its
reference; else there is a row for each setting and a column for each of a few prompts. Jobs with other prompts or seeds
stand beside these where the settings are the same, those with another reference below them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ..media.contact_sheet import COLUMNS, draw_contact_sheet, stack_sheets
from ..records.labels import label_jobs
from .collect import name_setting
from .grid_cells import (
    CellReader,
    Drawn,
    caption_sample,
    describe_job,
    list_subjects,
    name_reference,
    rate_sample,
    time_reference,
)
from .grid_values import draw_values
from .page.samples import samples_of
from .rows import Row, Sweep, name_rival, naming_axes

if TYPE_CHECKING:
    from ..media.images import ImageArray

ROWS, PROMPTS = 40, 4
"""Most jobs and prompts."""
SUBJECT = ("prompt", "prompts", "seed", "seeds")
"""Keys that change what an image is of, and not how it is made."""


def grid_png(sweep: Sweep) -> bytes | None:
    """Draws the grid and returns the PNG file; None where no images are left to draw."""
    done = [row for row in sweep.rows if samples_of(row)]
    drawn = draw_values(sweep, done, CellReader(), ROWS) or _draw_settings(sweep, done, CellReader())
    if not drawn.sheets:
        return None
    from PIL import Image

    left = len(done) - len(drawn.jobs)
    note = f"{left} more job{'s' * (left != 1)} not shown" if left else ""
    sheet = stack_sheets(drawn.sheets, title=drawn.title, note=note)
    Image.fromarray(sheet).save(buffer := BytesIO(), "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Block:
    """Jobs with one reference, prompts and seeds."""

    rows: list[Row]
    names: list[str]
    """What the jobs are called, apart from their prompts and seeds."""


def _draw_settings(sweep: Sweep, done: Sequence[Row], opener: CellReader) -> Drawn:
    """A row for each setting, below the reference; other references below, other prompts and seeds beside."""
    shown = _choose(done)
    with_seed = len({seed for row in shown for _, seed in list_subjects(row)}) > 1
    sheets, jobs = [], set()
    for blocks in _join(_divide(shown)):
        sheet, drawn = _draw_blocks(sweep, blocks, opener, with_seed=with_seed)
        sheets += [sheet] if sheet is not None else []
        jobs |= drawn
    return Drawn(sheets=sheets, jobs=jobs)


def _choose(rows: Sequence[Row]) -> list[Row]:
    """The jobs that are shown: those of the front first, in the order of the sweep."""
    wanted = sorted(range(len(rows)), key=lambda place: (not rows[place].front, place))[:ROWS]
    return [rows[place] for place in sorted(wanted)]


def _divide(rows: Sequence[Row]) -> list[Block]:
    """The jobs by reference, prompts and seeds, in the order of the sweep."""
    references: dict[Any, set[str]] = {}
    for row in rows:
        references.setdefault(list_subjects(row), set()).update({row.compared_with} - {""})
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        known = references[subjects := list_subjects(row)]
        # What was compared with nothing, as the full run is, stands with the only jobs that have its prompts.
        reference = row.compared_with or (next(iter(known)) if len(known) == 1 else "")
        groups.setdefault((reference, subjects), []).append(row)
    return [Block(rows=group, names=_name(group)) for group in groups.values()]


def _name(rows: Sequence[Row]) -> list[str]:
    """What jobs are called whose prompts and seeds stand elsewhere."""
    axes = [
        {key: "" if key.partition(".")[0] in SUBJECT else value for key, value in naming_axes(row).items()}
        for row in rows
    ]
    rivals = [name_rival(row) for row in rows]
    return label_jobs(axes, [row.job for row in rows], rivals=rivals, settings=[name_setting(row) for row in rows])


def _join(blocks: Sequence[Block]) -> list[list[Block]]:
    """Blocks that stand beside one another, as many as there is room for: those of the same settings."""
    alike: dict[tuple[Any, ...], list[Block]] = {}
    for block in blocks:
        settings = [{k: v for k, v in row.axes.items() if k.partition(".")[0] not in SUBJECT} for row in block.rows]
        alike.setdefault((repr(settings), name_reference(block.rows)), []).append(block)
    return [group[at : at + COLUMNS] for group in alike.values() for at in range(0, len(group), COLUMNS)]


def _draw_blocks(
    sweep: Sweep, blocks: Sequence[Block], opener: CellReader, *, with_seed: bool
) -> tuple[ImageArray | None, set[str]]:
    """One sheet of blocks of the same settings, side by side; and the jobs that it shows."""
    each = max(1, min(PROMPTS, COLUMNS // len(blocks)))
    places = [_spread(min(len(samples_of(row)) for row in block.rows), each) for block in blocks]
    lines: list[tuple[str, list[ImageArray], list[str]]] = []
    columns = [(block, place) for block, own in zip(blocks, places, strict=True) for place in own]
    compared = [next((row for row in block.rows if row.compared_with), block.rows[0]) for block, _ in columns]
    heads = [(row, samples_of(row)[place]) for row, (_, place) in zip(compared, columns, strict=True)]
    if references := opener.read_all(heads, reference=True):
        times = [time_reference(sweep, block.rows) if place == 0 else "" for block, place in columns]
        name = name_reference([row for block in blocks for row in block.rows if row.compared_with])
        label, times = (
            (name, times) if len(blocks) > 1 else (", ".join(filter(None, [name, times[0]])), [""] * len(columns))
        )
        lines.append((label, references, times))
    jobs: set[str] = set()
    for number in range(len(blocks[0].rows)):
        cells = [(block.rows[number], samples_of(block.rows[number])[place]) for block, place in columns]
        if (images := opener.read_all(cells)) is None:
            continue
        jobs |= {row.job for row, _ in cells}
        if len(blocks) == 1:
            row = blocks[0].rows[number]
            label, notes = f"{row.label}: {describe_job(sweep, row)}", [rate_sample(sample) for _, sample in cells]
        else:
            label = blocks[0].names[number]
            notes = [
                describe_job(sweep, row) if place == 0 else rate_sample(sample)
                for (row, sample), (_, place) in zip(cells, columns, strict=True)
            ]
        lines.append((label, images, notes))
    if not jobs:
        return None, jobs
    captions = [caption_sample(sample, with_seed=with_seed) for _, sample in heads]
    sheet = draw_contact_sheet(
        [(label, images) for label, images, _ in lines], captions, notes=[notes for _, _, notes in lines]
    )
    return sheet, jobs


def _spread(count: int, most: int) -> list[int]:
    """So many places at most, over all of them."""
    shown = min(count, most)
    return sorted({number * count // shown for number in range(shown)})
