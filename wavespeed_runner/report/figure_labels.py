"""Labels beside the points of the plots in `report.png`, placed where they fit without overlap."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..media.contact_sheet import INK, QUIET
from ..metrics.statistics import Interval
from .figure_styles import RIVAL
from .rows import Row

METRIC = "ssim"
"""The metric on the vertical axis."""
CROWD = 120
"""With more points than this, points are drawn small and pale."""
LABELLED, LETTERS = 24, 260
"""Most labels in a panel, and about the most characters in all of them, not counting rivals. A label that does not fit
is left out."""
FEW = 12
"""Most points whose intervals labels avoid."""
STAR = 9
"""Pixels from the middle of a star to the corners of the square around it."""
SPACING, ROUNDS = 14, 150
"""Label placement: pixels between the points of a curve that labels avoid, and most iterations."""


def add_labels(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None], stars: Sequence[float] = ()) -> None:
    """Adds labels beside their points, moved so that they cover neither each other nor lines nor references.

    Args:
        axes: the panel.
        rows: the jobs.
        x: the horizontal position of each job; None where the panel does not show it.
        stars: those of the references.
    """
    from adjustText import adjust_text
    from matplotlib.patheffects import withStroke

    points = [(row, at) for row, at in zip(rows, x, strict=True) if at is not None]
    chosen = _choose_points(points)
    texts = [
        axes.text(
            at.value,
            row.quality[METRIC].mean.value,
            drawable(row.label),
            fontsize=10.5,
            color=RIVAL if row.rival else INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            parse_math=False,
            zorder=6
            if len(points) > CROWD
            else 3.5,  # the white outline hides lines, and points only where they are many
        )
        for row, at in chosen
    ]
    if not texts:
        return
    places = [(at.value, row.quality[METRIC].mean.value) for row, at in points]
    every = 1 + len(places) // CROWD
    bars = _points_along_bars(points) if len(points) <= FEW else []  # where points are many, nothing else would fit
    occupied = places[::every] + _points_along_curves(axes) + bars + _points_of_stars(axes, stars)
    adjust_text(
        texts,
        x=[place[0] for place in occupied],
        y=[place[1] for place in occupied],
        ax=axes,
        expand=(1.15, 1.3),
        iter_lim=ROUNDS,
    )
    rivals = [(at.value, row.quality[METRIC].mean.value) for row, at in points if row.rival]
    kept = _drop_overlapping(
        texts, [tuple(axes.transData.transform(place)) for place in [*rivals, *_points_of_stars(axes, stars)]]
    )
    for text, (row, at) in zip(texts, chosen, strict=True):
        if text in kept:
            _connect(axes, text, (at.value, row.quality[METRIC].mean.value))


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


def _points_along_curves(axes: Any) -> list[tuple[float, float]]:
    """Points that labels avoid: one every `SPACING` pixels along the curves of a panel, in data coordinates."""
    import numpy as np

    places: list[tuple[float, float]] = []
    for line in axes.lines:
        if line.get_linestyle() in ("-", "--") and len(line.get_xdata()) > 1:
            pixels = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
            for start, end in pairwise(pixels):
                count = int(np.hypot(*(end - start)) / SPACING)
                between = [start + (end - start) * (i + 1) / (count + 1) for i in range(count)]
                places += [tuple(axes.transData.inverted().transform(place)) for place in between]
    return places


def _points_along_bars(points: Sequence[tuple[Row, Interval]]) -> list[tuple[float, float]]:
    """Points that labels avoid: along the intervals, in data coordinates."""
    places = []
    for row, at in points:
        mean = row.quality[METRIC].mean
        for part in (0.25, 0.5, 0.75, 1.0):
            places += [(at.value, mean.value + part * (end - mean.value)) for end in (mean.low, mean.high)]
            places += [(at.value + part * (end - at.value), mean.value) for end in (at.low, at.high)]
    return places


def _points_of_stars(axes: Any, stars: Sequence[float]) -> list[tuple[float, float]]:
    """Points that labels avoid: the middle and the tips of each star, in data coordinates."""
    back = axes.transData.inverted()
    middles = [axes.transData.transform((place, 1.0)) for place in stars]
    moves = [(0, 0), *((STAR * x, STAR * y) for x in (-1, 1) for y in (-1, 1))]
    return [tuple(back.transform((x + dx, y + dy))) for x, y in middles for dx, dy in moves]


def _drop_overlapping(texts: Sequence[Any], rivals: Sequence[tuple[float, float]]) -> list[Any]:
    """Removes labels that overlap earlier ones, a rival or a star (in pixels), or leave the image."""
    kept: list[Any] = []
    boxes: list[Any] = []
    for text in texts:
        box, frame = text.get_window_extent(), text.figure.bbox
        covers = any(box.overlaps(other) for other in boxes) or any(box.contains(*place) for place in rivals)
        if covers or not (frame.x0 <= box.x0 and box.x1 <= frame.x1):
            text.remove()
        else:
            kept.append(text)
            boxes.append(box)
    return kept


def _connect(axes: Any, text: Any, point: tuple[float, float]) -> None:
    """Draws a thin line from a label to its point if they are far apart."""
    from matplotlib.patches import FancyArrowPatch

    box, (x, y) = text.get_window_extent().expanded(1.0, 1.0), axes.transData.transform(point)
    away = max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1)
    if away > SPACING:
        line = FancyArrowPatch(text.get_position(), point, arrowstyle="-", patchA=text, color=QUIET, linewidth=0.7)
        axes.add_patch(line)


def drawable(text: str) -> str:
    """Replaces characters that matplotlib's default font lacks, all but Latin, Greek and Cyrillic, by `?`."""
    return "".join(c if (c.isprintable() and c < "\u0530") or c == "…" else "?" for c in " ".join(text.split()))
