"""Names beside the points of a plot, where there is room for them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from ..media.contact_sheet import INK, QUIET
from ..metrics.statistics import Interval
from .rows import Row

METRIC = "ssim"
SETTING, RIVAL = "#0072B2", "#D55E00"
"""Told apart by everybody: Okabe and Ito, Color universal design, 2008. Shapes differ as well."""
CROWD = 120
"""From this number of points on they are drawn small and pale."""
LABELLED, LETTERS = 24, 260
"""Most labels, and about the most characters in all of them, in a panel, rivals not counted. A label that finds no free
place is left out."""
SPACING, ROUNDS = 14, 150
"""Of labels: pixels between the places of a curve that they keep off, and how often they are moved."""


def add_labels(axes: Any, rows: Sequence[Row], x: Sequence[Interval | None]) -> None:
    """Names beside their points, moved apart and off the lines."""
    from adjustText import adjust_text
    from matplotlib.patheffects import withStroke

    drawn = [(row, at) for row, at in zip(rows, x, strict=True) if at is not None]
    chosen = _chosen(drawn)
    texts = [
        axes.text(
            at.value,
            row.quality[METRIC].mean.value,
            drawable(row.label),
            fontsize=10.5,
            color=RIVAL if row.rival else INK,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            parse_math=False,
            zorder=6 if len(drawn) > CROWD else 3.5,  # its halo hides lines; of points only those of a crowd
        )
        for row, at in chosen
    ]
    if not texts:
        return
    points = [(at.value, row.quality[METRIC].mean.value) for row, at in drawn]
    occupied = points[:: 1 + len(points) // CROWD] + _along(axes)
    adjust_text(
        texts,
        x=[place[0] for place in occupied],
        y=[place[1] for place in occupied],
        ax=axes,
        expand=(1.15, 1.3),
        iter_lim=ROUNDS,
    )
    rivals = [(at.value, row.quality[METRIC].mean.value) for row, at in drawn if row.rival]
    kept = _drop_overlapping(texts, [tuple(axes.transData.transform(place)) for place in rivals])
    for text, (row, at) in zip(texts, chosen, strict=True):
        if text in kept:
            _tie(axes, text, (at.value, row.quality[METRIC].mean.value))


def _chosen(drawn: Sequence[tuple[Row, Interval]]) -> list[tuple[Row, Interval]]:
    """Chooses the points that get a label: the rivals, and as many others as there is room for.

    Those on the front come first; of too many every n-th is taken.
    """
    room = min(LABELLED, max(6, LETTERS // max((len(row.label) for row, _ in drawn), default=1)))
    ordered = sorted(drawn, key=lambda pair: pair[1].value)
    front = [pair for pair in ordered if pair[0].front and not pair[0].rival]
    others = [pair for pair in ordered if not pair[0].front and not pair[0].rival]
    chosen = _thinned(front, room)
    return _thinned([pair for pair in ordered if pair[0].rival], room) + chosen + _thinned(others, room - len(chosen))


def _thinned(pairs: list[tuple[Row, Interval]], most: int) -> list[tuple[Row, Interval]]:
    return pairs if len(pairs) <= most else [pairs[i * len(pairs) // most] for i in range(most)]


def _along(axes: Any) -> list[tuple[float, float]]:
    """Points along the curves of a panel, for labels to keep off, one every `SPACING` pixels."""
    import numpy as np

    found: list[tuple[float, float]] = []
    for line in axes.lines:
        if line.get_linestyle() in ("-", "--") and len(line.get_xdata()) > 1:
            pixels = axes.transData.transform(np.column_stack([line.get_xdata(), line.get_ydata()]))
            for start, end in pairwise(pixels):
                count = int(np.hypot(*(end - start)) / SPACING)
                between = [start + (end - start) * (i + 1) / (count + 1) for i in range(count)]
                found += [tuple(axes.transData.inverted().transform(place)) for place in between]
    return found


def _drop_overlapping(texts: Sequence[Any], rivals: Sequence[tuple[float, float]]) -> list[Any]:
    """Takes away labels that lie on earlier ones, on a rival (in pixels), or outside of the image; the others."""
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


def _tie(axes: Any, text: Any, point: tuple[float, float]) -> None:
    """A hairline from a label to its point, where it stands away from it."""
    from matplotlib.patches import FancyArrowPatch

    box, (x, y) = text.get_window_extent().expanded(1.0, 1.0), axes.transData.transform(point)
    away = max(box.x0 - x, x - box.x1, box.y0 - y, y - box.y1)
    if away > SPACING:
        line = FancyArrowPatch(text.get_position(), point, arrowstyle="-", patchA=text, color=QUIET, linewidth=0.7)
        axes.add_patch(line)


def drawable(text: str) -> str:
    """As matplotlib's own font can have it: Latin, Greek and Cyrillic letters."""
    return "".join(c if (c.isprintable() and c < "\u0530") or c == "…" else "?" for c in " ".join(text.split()))
