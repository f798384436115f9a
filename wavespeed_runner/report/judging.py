"""Which settings are worth their time: against each other, against fewer steps, and against the reference itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .statistics import Point, front, reached

if TYPE_CHECKING:
    from .collect import Row

RANKING = "ssim"
"""The metric that front and rivals go by."""


def judged(rows: Sequence[Row]) -> list[Row]:
    """Fronts, among the rows that are compared with the same, and verdicts, among those with the same rivals."""
    done = list(rows)
    worth = worth_their_time(rows)
    for members in _groups(rows, lambda row: row.compared_with):
        # The reference has SSIM 1: it dominates whatever takes as long, however close to it that is.
        members = [number for number in members if worth[number]]
        for number, on_front in zip(members, front([_point(rows[number]) for number in members]), strict=True):
            done[number] = replace(done[number], front=on_front)
    for members in _groups(rows, lambda row: row.rivals_with):
        rivals = [rows[number] for number in members if rows[number].rival]
        for number in members:
            if rivals and not rows[number].rival:
                done[number] = replace(done[number], **_verdict(rows[number], rivals))
    return done


def worth_their_time(rows: Sequence[Row]) -> list[bool]:
    """Whether each row is faster than the reference: than its own, timed beside it, and than the one that plots show.

    True where the reference's time is not known.
    """
    shown = reference_times(rows)
    return [
        not row.seconds
        or all(
            reference is None or row.seconds.value < reference
            for reference in (row.reference_seconds, shown.get(row.rivals_with))
        )
        for row in rows
    ]


def reference_times(rows: Sequence[Row]) -> dict[str, float]:
    """`rivals_with` -> seconds of its reference, the middle one where the jobs of a group have measured several."""
    seconds: dict[str, list[float]] = {}
    for row in rows:
        if row.status == "completed" and row.reference_seconds is not None and row.rivals_with:
            seconds.setdefault(row.rivals_with, []).append(row.reference_seconds)
    return {group: sorted(own)[len(own) // 2] for group, own in seconds.items()}


def nothing_faster(rows: Sequence[Row]) -> bool:
    """Settings were timed and compared with a reference, and not one of them is faster than that."""
    compared = [row for row in rows if row.seconds and row.reference_seconds and RANKING in row.quality]
    return bool(compared) and not any(row.front for row in rows)


def _groups(rows: Sequence[Row], key: Callable[[Row], str]) -> list[list[int]]:
    """Places of the rows that can be judged, those with the same key together."""
    groups: dict[str, list[int]] = {}
    for number, row in enumerate(rows):
        if row.status == "completed" and key(row) and row.seconds and RANKING in row.quality:
            groups.setdefault(key(row), []).append(number)
    return list(groups.values())


def _verdict(row: Row, rivals: Sequence[Row]) -> dict[str, Any]:
    """Fields of a row that say whether fewer steps do as well; the reference, of all steps, ends their line.

    A machine may be slower on another day, or for another process: where each was timed together with its reference,
    times are taken relative to that.
    """
    relative = all(one.same_run and one.reference_seconds for one in (row, *rivals))
    line = [_point(rival, relative) for rival in rivals]
    if row.reference_seconds:
        line.append(Point(seconds=1.0 if relative else row.reference_seconds, quality=1.0))
    own = _point(row, relative)
    quality = reached(line, own.seconds)
    return {"beaten_by_fewer_steps": quality is not None and quality >= own.quality, "judged_same_run": relative}


def _point(row: Row, relative: bool = False) -> Point:
    assert row.seconds
    unit = row.reference_seconds if relative and row.reference_seconds else 1.0
    return Point(seconds=row.seconds.value / unit, quality=row.quality[RANKING].mean.value)
