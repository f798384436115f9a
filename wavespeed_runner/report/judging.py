"""Which settings are worth their time: against each other, against fewer steps, and against the reference itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..metrics.statistics import Point, find_pareto_front, interpolate_quality

if TYPE_CHECKING:
    from .rows import Row

RANKING = "ssim"
"""The metric that front and rivals go by."""


def judged(rows: Sequence[Row]) -> list[Row]:
    """Fronts, among the rows that are compared with the same, and verdicts, among those with the same rivals."""
    done = list(rows)
    worth, pace = worth_their_time(rows), paces(rows)
    for members in _groups(rows, lambda row: row.compared_with):
        # The reference has SSIM 1: it dominates whatever takes as long, however close to it that is.
        members = [number for number in members if worth[number]]
        points = [_point(rows[number], pace[number]) for number in members]
        for number, on_front in zip(members, find_pareto_front(points), strict=True):
            done[number] = replace(done[number], front=on_front)
    for members in _groups(rows, lambda row: row.rivals_with):
        rivals = [rows[number] for number in members if rows[number].rival]
        for number in members:
            if rivals and not rows[number].rival:
                done[number] = replace(done[number], **_verdict(rows[number], rivals))
    return done


def worth_their_time(rows: Sequence[Row]) -> list[bool]:
    """Whether each row is faster than the reference: than its own, and than the one that plots show (see `paces`).

    True where the reference's time is not known; False where as much was computed as in the reference, for then a
    difference in time is noise.
    """
    shown = reference_times(rows)
    return [
        not row.same_work and _is_faster(row, shown.get(row.rivals_with), pace)
        for row, pace in zip(rows, paces(rows), strict=True)
    ]


def _is_faster(row: Row, shown: float | None, pace: float) -> bool:
    if not row.seconds:
        return True
    own, seconds = row.reference_seconds, row.seconds.value
    return (own is None or seconds < own) and (shown is None or seconds * pace < shown)


def paces(rows: Sequence[Row]) -> list[float]:
    """What to multiply each row's seconds by before they are compared with another's, or drawn beside them.

    A machine may be slower on another day, or for another process. Where all that are compared with one another were
    each timed together with a reference, the factor makes the row's reference as fast as the middle one of its group;
    elsewhere it is 1.
    """
    shown, found = reference_times(rows), dict.fromkeys(range(len(rows)), 1.0)
    for members in _groups(rows, lambda row: row.compared_with):
        own = {number: seconds for number in members if (seconds := _beside(rows[number]))}
        if len(own) == len(members):
            found |= {number: shown[rows[number].rivals_with] / seconds for number, seconds in own.items()}
    return list(found.values())


def _beside(row: Row) -> float | None:
    """Seconds of the reference that the row was timed together with; None: there is none."""
    return row.reference_seconds if row.same_run and row.rivals_with else None


def reference_times(rows: Sequence[Row]) -> dict[str, float]:
    """`rivals_with` -> seconds of its reference, the middle one where the jobs of a group have measured several."""
    seconds: dict[str, list[float]] = {}
    for row in rows:
        if row.status == "completed" and row.reference_seconds is not None and row.rivals_with:
            seconds.setdefault(row.rivals_with, []).append(row.reference_seconds)
    return {group: sorted(own)[len(own) // 2] for group, own in seconds.items()}


def nothing_faster(rows: Sequence[Row]) -> bool:
    """Settings were timed and compared with a reference, and not one of them is faster than that: each than its own."""
    timed = [
        (row.seconds.value, row.reference_seconds)
        for row in rows
        if row.seconds and row.reference_seconds and RANKING in row.quality
    ]
    return bool(timed) and not any(row.front for row in rows) and all(own >= theirs for own, theirs in timed)


def _groups(rows: Sequence[Row], key: Callable[[Row], str]) -> list[list[int]]:
    """Places of the rows that can be judged, those with the same key together."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.status == "completed" and key(row) and row.seconds and RANKING in row.quality:
            groups.setdefault(key(row), []).append(number)
    return list(groups.values())


def _verdict(row: Row, rivals: Sequence[Row]) -> dict[str, Any]:
    """Fields of a row that say whether fewer steps do as well; the reference, of all steps, ends their line.

    Where each was timed together with its reference, times are taken relative to that, as in `paces`. What has computed
    as much as the reference stands where that stands.
    """
    relative = all(one.same_run and one.reference_seconds for one in (row, *rivals))
    line = [_relative(rival) if relative else _point(rival) for rival in rivals]
    if row.reference_seconds:
        line.append(Point(seconds=1.0 if relative else row.reference_seconds, quality=1.0))
    own = _relative(row) if relative else _point(row)
    quality = interpolate_quality(line, own.seconds)
    beaten = row.same_work or (quality is not None and quality >= own.quality)
    return {"beaten_by_fewer_steps": beaten, "judged_same_run": relative}


def _relative(row: Row) -> Point:
    """In units of the reference's time."""
    return _point(row, 1 / (row.reference_seconds or 1.0))


def _point(row: Row, pace: float = 1.0) -> Point:
    assert row.seconds
    return Point(seconds=row.seconds.value * pace, quality=row.quality[RANKING].mean.value)
