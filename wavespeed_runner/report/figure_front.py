"""The front of the plots in `report.png`: the settings that no other is better than, as stairs up to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..media.contact_sheet import INK
from ..metrics.statistics import Interval, Point, find_pareto_front
from .figure_labels import METRIC
from .rows import Row


def find_share_front(rows: Sequence[Row]) -> list[bool]:
    """Which jobs no other of the same reference beats in both computed share and quality, as on the page."""
    found = [False] * len(rows)
    for group in {row.compared_with for row in rows if row.compared_with}:
        own = [
            (place, Point(seconds=row.computed_share, quality=row.quality[METRIC].mean.value))
            for place, row in enumerate(rows)
            if row.compared_with == group and row.computed_share is not None and row.computed_share < 1
        ]
        for (place, _), is_on_it in zip(own, find_pareto_front([point for _, point in own]), strict=True):
            found[place] = is_on_it
    return found


def draw_front(
    axes: Any,
    rows: Sequence[Row],
    x: Sequence[Interval | None],
    references: Mapping[str, float],
    on_front: Sequence[bool],
) -> None:
    """Draws the front of each group as a line, which ends at the reference: nothing is better than that.

    Args:
        axes: the panel.
        rows: the jobs.
        x: the place of each along the axis; None where the panel does not show it.
        references: group of jobs with the same reference -> that one's place.
        on_front: of each job.
    """
    groups: dict[str, list[tuple[float, float]]] = {}
    for row, at, is_on_it in zip(rows, x, on_front, strict=True):
        if at is not None and is_on_it:
            own = groups.setdefault(row.compared_with, [])
            own.append((at.value, row.quality[METRIC].mean.value))
            if row.rivals_with in references:
                own.append((references[row.rivals_with], 1.0))
    for number, points in enumerate(_ascending(points) for points in groups.values()):
        if len(points) > 1:
            axes.plot(
                *_stairs(points),
                color=INK,
                linewidth=1.1,
                alpha=0.75,
                zorder=2.5,
                label="Pareto front" if number == 0 else None,
            )


def _ascending(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Keeps the points that are better than all before them: of several references the fastest is the end."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not kept or y > kept[-1][1] or (x, y) == kept[-1]:
            kept.append((x, y))
    return list(dict.fromkeys(kept))


def _stairs(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """The corners of the front: between two settings there is none, so the faster one is what is there to have."""
    corners = [points[0]]
    for (_, low), (x, y) in pairwise(points):
        corners += [(x, low), (x, y)]
    return [x for x, _ in corners], [y for _, y in corners]
