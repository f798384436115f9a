"""Ranks settings: against each other, against fewer steps, and against the reference itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..metrics.statistics import Point, find_pareto_front, interpolate_quality
from ..records.reference import name_steps, reference_steps

if TYPE_CHECKING:
    from .rows import Row

RANKING = "ssim"
"""The metric that front and rivals are ranked by."""


def rank_rows(rows: Sequence[Row]) -> list[Row]:
    """Returns the rows with their place on the Pareto front, and whether fewer steps do as well.

    Fronts are among the rows that can be compared (`compared_with`), verdicts among those with the same rivals.
    """
    ranked = list(rows)
    faster, factors = are_faster(rows), time_factors(rows)
    for members in _groups(rows, lambda row: row.compared_with):
        # The reference has SSIM 1: it dominates whatever takes as long, however close to it that is.
        members = [number for number in members if faster[number]]
        points = [_point(rows[number], factors[number]) for number in members]
        for number, on_front in zip(members, find_pareto_front(points), strict=True):
            ranked[number] = replace(ranked[number], front=on_front)
    for members in _groups(rows, lambda row: row.rivals_with):
        rivals = [rows[number] for number in members if rows[number].rival]
        for number in members:
            if rivals and not rows[number].rival:
                ranked[number] = replace(ranked[number], **_compare_with_rivals(rows[number], rivals))
    return ranked


def are_faster(rows: Sequence[Row]) -> list[bool]:
    """Returns whether each row is faster than the reference: than its own, and than the one that plots show.

    True where the reference's time is not known; False where as much was computed as in the reference, for then a
    difference in time is noise.
    """
    shown = reference_times(rows)
    return [
        not row.same_work and _is_faster(row, shown.get(row.rivals_with), factor)
        for row, factor in zip(rows, time_factors(rows), strict=True)
    ]


def _is_faster(row: Row, shown: float | None, factor: float) -> bool:
    if not row.seconds:
        return True
    own, seconds = row.reference_seconds, row.seconds.value
    return (own is None or seconds < own) and (shown is None or seconds * factor < shown)


def time_factors(rows: Sequence[Row]) -> list[float]:
    """Returns what to multiply each row's seconds by before they are compared with another's, or drawn beside them.

    A machine may be slower on another day, or for another process. Where all rows that are compared with each other
    were each timed together with a reference, the factor makes the row's reference as fast as the median one of its
    group; elsewhere it is 1.
    """
    shown, factors = reference_times(rows), dict.fromkeys(range(len(rows)), 1.0)
    for members in _groups(rows, lambda row: row.compared_with):
        own = {number: seconds for number in members if (seconds := _timed_together_with(rows[number]))}
        if len(own) == len(members):
            factors |= {number: shown[rows[number].rivals_with] / seconds for number, seconds in own.items()}
    return list(factors.values())


def _timed_together_with(row: Row) -> float | None:
    """Seconds of the reference that the row was timed together with; None where there is none."""
    return row.reference_seconds if row.same_run and row.rivals_with else None


def reference_times(rows: Sequence[Row]) -> dict[str, float]:
    """Returns `rivals_with` -> seconds of its reference, the median where the jobs of a group have measured several."""
    seconds: dict[str, list[float]] = {}
    for row in rows:
        if row.status == "completed" and row.reference_seconds is not None and row.rivals_with:
            seconds.setdefault(row.rivals_with, []).append(row.reference_seconds)
    return {group: sorted(times)[len(times) // 2] for group, times in seconds.items()}


def is_nothing_faster(rows: Sequence[Row]) -> bool:
    """Returns whether settings were compared with a reference, and not one of them is faster than its own."""
    timed = [
        (row.seconds.value, row.reference_seconds)
        for row in rows
        if row.seconds and row.reference_seconds and RANKING in row.quality
    ]
    return bool(timed) and not any(row.front for row in rows) and all(own >= other for own, other in timed)


def _groups(rows: Sequence[Row], key: Callable[[Row], str]) -> list[list[int]]:
    """Indices of the rows that can be ranked, those with the same key together."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.status == "completed" and key(row) and row.seconds and RANKING in row.quality:
            groups.setdefault(key(row), []).append(number)
    return list(groups.values())


def _compare_with_rivals(row: Row, rivals: Sequence[Row]) -> dict[str, Any]:
    """Fields of a row that say whether fewer steps do as well, of whichever sampler is the best in the row's time.

    Where each was timed together with its reference, times are relative to that, as in `time_factors`. A row that
    computed as much as the reference is beaten by it.
    """
    relative = all(one.same_run and one.reference_seconds for one in (row, *rivals))
    own = _relative(row) if relative else _point(row)
    best = _find_best(_draw_lines(row, rivals, relative=relative), own.seconds)
    beaten = row.same_work or (best is not None and best[0] >= own.quality)
    return {"beaten_by_fewer_steps": beaten, "judged_same_run": relative, "best_rival": best[1] if best else ""}


def _draw_lines(row: Row, rivals: Sequence[Row], *, relative: bool) -> dict[str, list[Point]]:
    """Solver -> its rivals. The reference, of all steps, ends the line of its own sampler, "": no other leads to it."""
    lines: dict[str, list[Point]] = {"": []}
    for rival in rivals:
        lines.setdefault(rival.solver, []).append(_relative(rival) if relative else _point(rival))
    if row.reference_seconds:
        seconds, steps = 1.0 if relative else row.reference_seconds, reference_steps(row.record) if row.record else None
        lines[""].append(Point(seconds=seconds, quality=1.0, steps=steps))
    return lines


def _find_best(lines: dict[str, list[Point]], seconds: float) -> tuple[float, str] | None:
    """The highest quality that one of the lines reaches in this time, and what is called so; None: none is so fast."""
    best: tuple[float, str] | None = None
    for solver, line in lines.items():
        found = interpolate_quality(line, seconds)
        if found and (best is None or found[0] > best[0]):
            best = found[0], name_steps(solver, " to ".join(str(point.steps) for point in found[1]))
    return best


def _relative(row: Row) -> Point:
    """In units of the reference's time."""
    return _point(row, 1 / (row.reference_seconds or 1.0))


def _point(row: Row, factor: float = 1.0) -> Point:
    assert row.seconds
    steps = row.record.config["steps"] if row.record else None
    return Point(seconds=row.seconds.value * factor, quality=row.quality[RANKING].mean.value, steps=steps)
