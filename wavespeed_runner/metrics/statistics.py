"""The statistics of a report: bootstrap intervals, the Pareto front, and what fewer steps would reach in the same time.

numpy and scipy are imported where they are used.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

RESAMPLES = 2000
"""Bootstrap samples behind a 95 % interval."""
SEED = 0
"""Of the bootstrap: a report made twice is the same."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean or a median with its bootstrap 95 % bounds. One value, or equal ones, have bounds equal to it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where a setting lies in the plane of time and quality."""

    seconds: float
    quality: float
    """More is better."""


def bootstrap_interval(values: Sequence[tuple[Hashable, float]], of: Literal["mean", "median"]) -> Interval:
    """Mean or median over all values, and the 95 % percentile bootstrap around it.

    Values that share a cluster (the images of one prompt, with several seeds) are drawn together: prompts are what
    a user will vary, and seeds of one prompt say little about another (Field and Welsh: Bootstrapping clustered data,
    Journal of the Royal Statistical Society B 69(3), 2007). With a single cluster its values are drawn one by one, and
    the interval says nothing about other prompts. Of fewer than about ten clusters it is too narrow.

    Args:
        values: (cluster, value), at least one, all finite.
    """
    import numpy as np
    from scipy.stats import bootstrap

    clusters: dict[Hashable, list[float]] = {}
    for cluster, value in values:
        clusters.setdefault(cluster, []).append(value)
    drawn = list(clusters.values()) if len(clusters) > 1 else [[value] for _, value in values]
    longest = max(map(len, drawn))
    # (clusters, values); NaN fills up those with fewer values than others.
    table = np.array([[*own, *[np.nan] * (longest - len(own))] for own in drawn], dtype=np.float64)
    statistic: Any = getattr(np, f"nan{of}" if np.isnan(table).any() else of)
    value = float(statistic(table))
    if np.nanmin(table) == np.nanmax(table):
        return Interval(value=value, low=value, high=value)

    def of_drawn(rows: Any, axis: int = -1) -> Any:
        chosen = table[rows.astype(int)]
        return statistic(chosen.reshape(*chosen.shape[:-2], -1), axis=-1)

    found = bootstrap(
        (np.arange(len(table)),),
        of_drawn,
        vectorized=True,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return Interval(value=value, low=float(found.low), high=float(found.high))


def find_pareto_front(points: Sequence[Point]) -> list[bool]:
    """Which points nobody dominates: no other is as fast and as good, and better in one of the two."""
    best_before: dict[float, float] = {}
    best = -inf
    for point in sorted(points, key=lambda p: p.seconds):
        best = max(best, point.quality)
        best_before[point.seconds] = best  # the last of equal times has seen them all
    times = sorted(best_before)

    def stands(point: Point) -> bool:
        place = bisect_left(times, point.seconds)
        faster = best_before[times[place - 1]] if place else -inf
        return point.quality > faster and point.quality == best_before[point.seconds]

    return [stands(point) for point in points]


def interpolate_quality(rivals: Sequence[Point], seconds: float) -> float | None:
    """The quality that fewer steps reach in no more than these seconds; None: not even the fewest are that fast.

    Between two rivals, neighbours in time, the line through them: the number of steps in between is one that could
    have been run. A faster rival that is better than a slower one counts from its own time on.
    """
    ordered = sorted(rivals, key=lambda p: (p.seconds, p.quality))
    found = [point.quality for point in ordered if point.seconds <= seconds]
    if not found:
        return None
    if len(found) < len(ordered):
        left, right = ordered[len(found) - 1], ordered[len(found)]
        part = (seconds - left.seconds) / (right.seconds - left.seconds)
        found.append(left.quality + part * (right.quality - left.quality))
    return max(found)
