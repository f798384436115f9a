"""Where labels of a plot stand: beside their points, off lines, marks and each other; pure geometry in pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from typing import Any, NamedTuple

import numpy as np

ANGLES = 24
"""Directions in which a label is tried."""
GAPS = (5, 9, 14, 20, 28, 40, 56, 76, 100, 130)
"""Distances from the point to the label, in pixels, that are tried in each direction."""
APART = 2.0
"""Pixels between a label and whatever it keeps off."""
LEADER = 14
"""Pixels from which a label is connected with its point by a line."""
CURVE, LEADERS, NEARER, MARK = 2.0, 12.0, 1.5, 3.0
"""What counts as much as so many times `LEADER` of distance: a curve behind the label, a leader line that crosses
another one, a point that is nearer to the label than its own, a mark under the leader line."""

Boxes = Any
"""An array of boxes: left, lower, right, upper."""
Segments = Any
"""An array of straight lines: x and y of one end, then of the other."""


@dataclass(frozen=True, kw_only=True)
class Obstacles:
    """What labels keep off."""

    frame: tuple[float, float, float, float]
    """The box that no label leaves."""
    never: Boxes
    """What is never covered."""
    marks: Boxes
    """What is covered only where a label is asked for by all means."""
    bars: Segments
    """Lines of which that is also true."""
    curves: Segments
    """Lines that are avoided where that is easy."""


class Place(NamedTuple):
    """Where one label stands."""

    x: float
    """Of its middle."""
    y: float
    leader: tuple[float, float] | None
    """Where the line to its point begins, at the label's edge; None where the label is near enough without one."""


class _Taken(NamedTuple):
    """What labels that have a place occupy."""

    boxes: list[Any]
    leaders: list[Any]


def find_places(
    sizes: Sequence[tuple[float, float]],
    points: Sequence[tuple[float, float]],
    obstacles: Obstacles,
    *,
    least: int = 0,
    needed: Sequence[bool] = (),
) -> list[Place | None]:
    """Finds a place for each label, the first ones first: the nearest one where it covers nothing.

    Args:
        sizes: width and height of each label.
        points: what each label names.
        obstacles: what they keep off.
        least: if fewer labels find a place, the first ones of the others may cover bars and marks.
        needed: labels that may do so anyway.

    Returns:
        The places; None for a label that has none.
    """
    taken, places = _Taken([], []), list[Place | None]([None] * len(sizes))
    anchors = np.asarray(points, dtype=float).reshape(-1, 2)

    def place(index: int, *, strict: bool) -> None:
        if places[index] is None:
            places[index] = _find_place(sizes[index], anchors[index], anchors, obstacles, taken, strict=strict)

    for index in range(len(sizes)):
        place(index, strict=True)
        if index < len(needed) and needed[index]:
            place(index, strict=False)
    for index in range(len(sizes)):
        if sum(one is not None for one in places) < least:
            place(index, strict=False)
    return places


def _find_place(
    size: tuple[float, float], point: Any, points: Any, obstacles: Obstacles, taken: _Taken, *, strict: bool
) -> Place | None:
    """The best place of one label, which is then taken."""
    boxes = _list_candidates(size, point)
    wide = boxes + np.array([-APART, -APART, APART, APART])
    leaders = np.column_stack([_nearest(boxes, point), np.broadcast_to(point, (len(boxes), 2))])
    away = np.hypot(leaders[:, 0] - leaders[:, 2], leaders[:, 1] - leaders[:, 3])
    has_leader = away > LEADER
    others, lines = np.reshape(taken.boxes, (-1, 4)), np.reshape(taken.leaders, (-1, 4))
    left, low, right, high = obstacles.frame
    fits = (boxes[:, 0] >= left) & (boxes[:, 1] >= low) & (boxes[:, 2] <= right) & (boxes[:, 3] <= high)
    fits &= ~_overlaps(wide, others).any(1) & ~_overlaps(boxes, obstacles.never).any(1)
    fits &= ~crosses(wide, lines).any(1) & ~(has_leader & crosses(others, leaders).any(0))
    covers = _overlaps(boxes, obstacles.marks).sum(1) + crosses(wide, obstacles.bars).sum(1)
    if strict:
        fits &= covers == 0
    if not fits.any():
        return None
    nearer = (_distances(boxes, points) < away[:, None] - 1).sum(1)
    cost = away / LEADER + CURVE * crosses(boxes, obstacles.curves).sum(1) + NEARER * nearer + 2 * LEADERS * covers
    cost += has_leader * (1 + LEADERS * _meet(leaders, lines).sum(1))
    cost += has_leader * MARK * np.maximum(crosses(obstacles.marks, leaders).sum(0) - 1, 0)  # its own is one of them
    best = int(np.argmin(np.where(fits, cost, np.inf)))
    taken.boxes.append(boxes[best])
    if has_leader[best]:
        taken.leaders.append(leaders[best])
    box, start = boxes[best], leaders[best][:2]
    x, y = float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2
    return Place(x=x, y=y, leader=(float(start[0]), float(start[1])) if has_leader[best] else None)


def _list_candidates(size: tuple[float, float], point: Any) -> Boxes:
    """The boxes that are tried around a point."""
    angles = 2 * pi * np.arange(ANGLES) / ANGLES
    directions, half = np.column_stack([np.cos(angles), np.sin(angles)]), np.asarray(size) / 2
    middles = np.concatenate([point + directions * (half + gap) for gap in GAPS])
    return np.column_stack([middles - half, middles + half])


def _overlaps(boxes: Boxes, others: Boxes) -> Any:
    """Which boxes overlap which others: an array of truth values, one row for each box."""
    a, b = np.asarray(boxes)[:, None, :], np.reshape(others, (-1, 4))[None, :, :]
    return (a[..., 0] < b[..., 2]) & (b[..., 0] < a[..., 2]) & (a[..., 1] < b[..., 3]) & (b[..., 1] < a[..., 3])


def crosses(boxes: Boxes, segments: Segments) -> Any:
    """Which boxes have a part of which straight lines in them: truth values, one row for each box."""
    boxes, segments = np.reshape(boxes, (-1, 4)), np.reshape(segments, (-1, 4))
    begin, end = np.zeros((len(boxes), len(segments))), np.ones((len(boxes), len(segments)))
    for axis in (0, 1):
        start, length = segments[:, axis], segments[:, axis + 2] - segments[:, axis]
        length = np.where(np.abs(length) < 1e-9, 1e-9, length)
        one, other = ((boxes[:, [axis + side]] - start) / length for side in (0, 2))
        begin, end = np.maximum(begin, np.minimum(one, other)), np.minimum(end, np.maximum(one, other))
    return begin <= end


def _meet(lines: Segments, others: Segments) -> Any:
    """Which straight lines cross which others: truth values, one row for each line."""
    a, b = lines[:, None, :], np.reshape(others, (-1, 4))[None, :, :]

    def side(line: Any, x: Any, y: Any) -> Any:
        across = (line[..., 2] - line[..., 0]) * (y - line[..., 1]) - (line[..., 3] - line[..., 1]) * (x - line[..., 0])
        return across > 0

    return (side(a, b[..., 0], b[..., 1]) != side(a, b[..., 2], b[..., 3])) & (
        side(b, a[..., 0], a[..., 1]) != side(b, a[..., 2], a[..., 3])
    )


def _nearest(boxes: Boxes, point: Any) -> Any:
    """The place in each box that is nearest to a point."""
    return np.clip(point, boxes[:, :2], boxes[:, 2:])


def _distances(boxes: Boxes, points: Any) -> Any:
    """From each box to each point."""
    near = np.clip(points[None, :, :], boxes[:, None, :2], boxes[:, None, 2:])
    return np.hypot(*np.moveaxis(near - points[None, :, :], -1, 0))
