"""Statistics: bootstrap intervals, the Pareto front, and the quality that fewer steps reach in the same time.

numpy and scipy are imported where they are used.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal

RESAMPLES = 2000
"""Bootstrap samples for a 95 % interval."""
MOST_AT_ONCE = 20_000_000
"""Values that are resampled together: 2000 times 100,000 would take gigabytes."""
SEED = 0
"""Of the bootstrap, so that a report is reproducible."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean or median with its bootstrap 95 % bounds, which equal it for a single value or equal values."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Point:
    """The time and quality of one setting."""

    seconds: float
    quality: float
    """Higher is better."""
    steps: int | None = None
    """What tells rivals of one line apart."""


def bootstrap_interval(values: Sequence[tuple[Hashable, float]], of: Literal["mean", "median"]) -> Interval:
    """Computes the mean or median of all values, with its 95 % percentile bootstrap interval.

    Values of one cluster (the images of one prompt with several seeds) are resampled together, because users vary the
    prompt, and seeds of one prompt say little about another prompt (Field and Welsh: Bootstrapping clustered data,
    Journal of the Royal Statistical Society B 69(3), 2007). The values of a single cluster are resampled one by one;
    the interval then says nothing about other prompts. With fewer than about ten clusters it is too narrow.

    Args:
        values: pairs of cluster and value; at least one, all finite.
        of: the statistic.
    """
    import numpy as np
    from scipy.stats import bootstrap

    clusters: dict[Hashable, list[float]] = {}
    for cluster, value in values:
        clusters.setdefault(cluster, []).append(value)
    groups = list(clusters.values()) if len(clusters) > 1 else [[value] for _, value in values]
    longest = max(map(len, groups))
    # (clusters, values); clusters with fewer values are padded with NaN.
    table = np.array([[*group, *[np.nan] * (longest - len(group))] for group in groups], dtype=np.float64)
    statistic: Any = getattr(np, f"nan{of}" if np.isnan(table).any() else of)
    value = float(statistic(table))
    if np.nanmin(table) == np.nanmax(table):
        return Interval(value=value, low=value, high=value)

    def resampled_statistic(rows: Any, axis: int = -1) -> Any:
        resampled = table[rows.astype(int)]
        return statistic(resampled.reshape(*resampled.shape[:-2], -1), axis=-1)

    bounds = bootstrap(
        (np.arange(len(table)),),
        resampled_statistic,
        vectorized=True,
        n_resamples=RESAMPLES,
        batch=min(RESAMPLES, max(1, MOST_AT_ONCE // table.size)),
        method="percentile",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    # Percentiles are interpolated: where all resamples agree, rounding may turn them round.
    low, high = sorted((float(bounds.low), float(bounds.high)))
    return Interval(value=value, low=low, high=high)


def find_pareto_front(points: Sequence[Point]) -> list[bool]:
    """Which points are on the Pareto front: no other is at least as fast and as good, and better in one of both."""
    best_before: dict[float, float] = {}
    best = -inf
    for point in sorted(points, key=lambda p: p.seconds):
        best = max(best, point.quality)
        best_before[point.seconds] = best  # of equal times, the last has the best of all
    times = sorted(best_before)

    def is_on_front(point: Point) -> bool:
        position = bisect_left(times, point.seconds)
        best_of_faster = best_before[times[position - 1]] if position else -inf
        return point.quality > best_of_faster and point.quality == best_before[point.seconds]

    return [is_on_front(point) for point in points]


def interpolate_quality(rivals: Sequence[Point], seconds: float) -> tuple[float, tuple[Point, ...]] | None:
    """Estimates the quality that fewer steps reach in the same time, and of which rivals: one, or two neighbours.

    Linear between two rivals that are neighbours in time, because a number of steps in between could have been run. A
    faster rival that is better than a slower one counts for all longer times.

    Args:
        rivals: time and quality of runs with fewer steps, of one sampler.
        seconds: the time.

    Returns:
        None if even the fewest steps take longer.
    """
    ordered = sorted(rivals, key=lambda p: (p.seconds, p.quality))
    reached: list[tuple[float, tuple[Point, ...]]] = [(p.quality, (p,)) for p in ordered if p.seconds <= seconds]
    if not reached:
        return None
    if len(reached) < len(ordered):
        left, right = ordered[len(reached) - 1], ordered[len(reached)]
        fraction = (seconds - left.seconds) / (right.seconds - left.seconds)
        reached.append((left.quality + fraction * (right.quality - left.quality), (left, right)))
    return max(reached, key=lambda pair: pair[0])
