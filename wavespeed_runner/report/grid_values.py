"""The XY plot of `grid.png`: images as the values of two keys lie, each line or column with its reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..media.contact_sheet import draw_contact_sheet
from ..records.labels import shorten_value
from .grid_cells import CellReader, Drawn, describe_job, list_subjects, name_reference, time_reference
from .page.samples import samples_of
from .rows import Row, Sweep

if TYPE_CHECKING:
    from ..media.images import ImageArray

VALUES = 8
"""Most values across."""


def draw_values(sweep: Sweep, done: Sequence[Row], opener: CellReader, most: int) -> Drawn | None:
    """The first prompt's images as the values of two keys lie; None where these are not two, each with each.

    Args:
        sweep: whose keys were swept.
        done: its jobs with images.
        opener: reads them.
        most: jobs that are shown.
    """
    keys = [key for key in sweep.axes if len({row.axes.get(key) for row in done}) > 1]
    if len(keys) != 2:
        return None
    values = [list(dict.fromkeys(row.axes.get(key, "") for row in done)) for key in keys]
    if len(values[0]) > VALUES >= len(values[1]):
        keys, values = keys[::-1], values[::-1]
    (across, down), by_values = values, {tuple(row.axes.get(key) for key in keys): row for row in done}
    whole = len(done) == len(by_values) == len(across) * len(down)
    if not whole or len(across) > VALUES or len(done) > most:
        return None
    table = [[by_values[x, y] for x in across] for y in down]
    images = [opener.read_all([(row, samples_of(row)[0]) for row in line]) for line in table]
    if not all(images):
        return None
    names = [key.rpartition(".")[2] for key in keys]
    captions = [f"{names[0]} {x}" for x in across]
    labels = [f"{names[1]} {shorten_value(y)}" for y in down]
    notes = [[describe_job(sweep, row) for row in line] for line in table]
    rows = [(label, found) for label, found in zip(labels, images, strict=True) if found]
    plot = _add_references(sweep, table, _Plot(captions=captions, rows=rows, notes=notes), opener)
    if plot is None:
        return None
    sheet = draw_contact_sheet(plot.rows, plot.captions, notes=plot.notes, most=VALUES + 1)
    return Drawn(sheets=[sheet], jobs={row.job for row in done}, title=_name_subject(done))


@dataclass(frozen=True, kw_only=True)
class _Plot:
    """An XY plot as the contact sheet takes it."""

    captions: list[str]
    rows: list[tuple[str, list[ImageArray]]]
    notes: list[list[str]]


def _add_references(sweep: Sweep, table: Sequence[Sequence[Row]], plot: _Plot, opener: CellReader) -> _Plot | None:
    """The plot with the reference of each line before it, or of each column above it.

    As it is where nothing was compared, or the images of references are gone. None: each image has another reference.
    """
    if not any(row.compared_with for line in table for row in line):
        return plot
    turned = [list(column) for column in zip(*table, strict=True)]
    for lines, is_across in ((table, True), (turned, False)):
        if any(len({(row.compared_with, list_subjects(row)[0]) for row in line}) > 1 for line in lines):
            continue
        images = opener.read_all([(line[0], samples_of(line[0])[0]) for line in lines], reference=True)
        if images is None:
            return plot
        times = [time_reference(sweep, line) for line in lines]
        name = name_reference([row for line in lines for row in line])
        if not is_across:
            return replace(plot, rows=[(name, images), *plot.rows], notes=[times, *plot.notes])
        own = [name_reference(line).partition(": ")[2] for line in lines] if name == "reference" else [""] * len(lines)
        said = [", ".join(filter(None, pair)) for pair in zip(own, times, strict=True)]
        rows = [(label, [one, *found]) for one, (label, found) in zip(images, plot.rows, strict=True)]
        notes = [[one, *line] for one, line in zip(said, plot.notes, strict=True)]
        return _Plot(captions=[name, *plot.captions], rows=rows, notes=notes)
    return None


def _name_subject(rows: Sequence[Row]) -> str:
    """`a red circle (seed 0)`: prompt and seed of the first image, as far as all jobs have the same."""
    first = [list_subjects(row)[0] for row in rows]
    prompts, seeds = {" ".join(prompt.split()) for prompt, _ in first}, {seed for _, seed in first}
    prompt = prompts.pop() if len(prompts) == 1 else ""
    seed = f"seed {seeds.pop()}" if len(seeds) == 1 else ""
    return f"{prompt} ({seed})" if prompt and seed else prompt or seed
