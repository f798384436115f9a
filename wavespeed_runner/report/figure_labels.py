"""Labels beside the points of the plots in `report.png`, placed where they fit without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..media.contact_sheet import INK, QUIET
from ..metrics.statistics import Interval
from .figure_places import Obstacles, find_places
from .figure_styles import RIVAL
from .rows import Row

METRIC = "ssim"
"""The metric on the vertical axis."""
CROWD = 120
"""With more points than this, points are drawn small and pale."""
LABELLED, LETTERS = 24, 260
"""Most labels in a panel, and about the most characters in all of them, not counting rivals. A label that does not fit
is left out."""
FEWEST = 6
"""Labels of a panel that are there even where they cover error bars."""
MARK, STAR = 4, 9
"""Pixels from the middle of a point, and of a star, to the sides of the square that labels keep off."""


def add_labels(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], stars: Sequence[float] = ()) -> None:
    """Adds labels beside their points, where they cover neither each other nor lines nor intervals nor references.

    Args:
        axes: the panel.
        rows: the jobs.
        x: the horizontal position of each job; None where the panel does not show it.
        stars: those of the references.
    """
    points = [(row, at) for row, at in zip(rows, x, strict=True) if at is not None]
    chosen = _choose_points(points)
    texts = [_write_label(axes, row, crowd=len(points) > CROWD) for row, _ in chosen]
    if not texts:
        return
    boxes = [text.get_window_extent() for text in texts]
    places = find_places(
        [(box.width, box.height) for box in boxes],
        _to_pixels(axes, [_locate(*pair) for pair in chosen]),
        _collect_obstacles(axes, points, stars),
        least=FEWEST,
        needed=[row.rival for row, _ in chosen],
    )
    for text, place, pair in zip(texts, places, chosen, strict=True):
        if place is None:
            text.remove()
            continue
        text.set_position(axes.transData.inverted().transform(place[:2]))
        if place.leader:
            _connect(axes, axes.transData.inverted().transform(place.leader), _locate(*pair))


def _write_label(axes: Any, row: Row, *, crowd: bool) -> Any:
    """The label of a job, which is still to be moved."""
    from matplotlib.patheffects import withStroke

    return axes.text(
        0.5,
        0.5,
        drawable(row.label),
        fontsize=10.5,
        ha="center",
        va="center",
        color=RIVAL if row.rival else INK,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        parse_math=False,
        zorder=6 if crowd else 3.5,  # the white outline hides lines, and points only where they are many
    )


def _locate(row: Row, at: Interval) -> tuple[float, float]:
    """Where the point of a job is, in data coordinates."""
    return at.value, row.quality[METRIC].mean.value


def _to_pixels(axes: Any, places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in axes.transData.transform(places)] if places else []


def _choose_points(points: Sequence[tuple[Row, Interval]]) -> list[tuple[Row, Interval]]:
    """Chooses the points that get a label: rivals, then the Pareto front, then as many others as fit.

    Where there are too many, every n-th is taken.
    """
    room = min(LABELLED, max(6, LETTERS // max((len(row.label) for row, _ in points), default=1)))
    ordered = sorted(points, key=lambda pair: pair[1].value)
    front = [pair for pair in ordered if pair[0].front and not pair[0].rival]
    others = [pair for pair in ordered if not pair[0].front and not pair[0].rival]
    chosen = _take_every_nth(front, room)
    return (
        _take_every_nth([pair for pair in ordered if pair[0].rival], room)
        + chosen
        + _take_every_nth(others, room - len(chosen))
    )


def _take_every_nth(pairs: list[tuple[Row, Interval]], most: int) -> list[tuple[Row, Interval]]:
    return pairs if len(pairs) <= most else [pairs[i * len(pairs) // most] for i in range(most)]


def _collect_obstacles(axes: Any, points: Sequence[tuple[Row, Interval]], stars: Sequence[float]) -> Obstacles:
    """What the labels of a panel keep off. Where points are many, nothing would stand off all intervals."""
    crowd = len(points) > CROWD
    marks = _to_pixels(axes, [_locate(*pair) for pair in points])
    rivals = _to_pixels(axes, [_locate(*pair) for pair in points if pair[0].rival])
    names = [text.get_window_extent().extents for text in axes.texts if text.get_rotation()]
    frame = axes.get_window_extent()
    return Obstacles(
        frame=(frame.x0, frame.y0, frame.x1, frame.y1),
        never=np.array(
            [*_squares(_to_pixels(axes, [(at, 1.0) for at in stars]), STAR), *_squares(rivals, MARK), *names]
        ),
        marks=np.array([] if crowd else _squares(marks, MARK)),
        bars=np.array([] if crowd else _list_bars(axes, points)),
        curves=np.array(_list_curves(axes)),
    )


def _squares(middles: Sequence[tuple[float, float]], half: float) -> list[tuple[float, float, float, float]]:
    return [(x - half, y - half, x + half, y + half) for x, y in middles]


def _list_bars(axes: Any, points: Sequence[tuple[Row, Interval]]) -> list[tuple[float, ...]]:
    """The intervals as straight lines, in pixels."""
    ends = []
    for row, at in points:
        mean = row.quality[METRIC].mean
        ends += [(at.value, mean.low), (at.value, mean.high), (at.low, mean.value), (at.high, mean.value)]
    pixels = _to_pixels(axes, ends)
    return [(*start, *end) for start, end in zip(pixels[::2], pixels[1::2], strict=True)]


def _list_curves(axes: Any) -> list[tuple[float, ...]]:
    """The curves of a panel as straight lines, in pixels."""
    found: list[tuple[float, ...]] = []
    for line in axes.lines:
        if line.get_linestyle() in ("-", "--") and len(line.get_xdata()) > 1:
            pixels = _to_pixels(axes, list(zip(line.get_xdata(), line.get_ydata(), strict=True)))
            found += [(*start, *end) for start, end in pairwise(pixels)]
    return found


def _connect(axes: Any, start: tuple[float, float], point: tuple[float, float]) -> None:
    """Draws a thin line from the edge of a label to its point."""
    from matplotlib.patches import FancyArrowPatch

    line = FancyArrowPatch(start, point, arrowstyle="-", shrinkA=0, shrinkB=0, color=QUIET, linewidth=0.7)
    axes.add_patch(line)


def drawable(text: str) -> str:
    """Replaces characters that matplotlib's default font lacks, all but Latin, Greek and Cyrillic, by `?`."""
    return "".join(c if (c.isprintable() and c < "\u0530") or c == "…" else "?" for c in " ".join(text.split()))
