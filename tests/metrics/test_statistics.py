"""Statistics, checked against plain and slow implementations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wavespeed_runner.metrics import statistics
from wavespeed_runner.metrics.statistics import Point, bootstrap_interval, find_pareto_front, interpolate_quality

NUMBERS = st.floats(-1e6, 1e6, allow_nan=False).map(lambda x: round(x, 4))
POINTS = st.lists(
    st.builds(Point, seconds=st.integers(1, 9).map(float), quality=st.integers(0, 9).map(lambda q: q / 10)), max_size=14
)


def bootstrap_slowly(values: list[tuple[str, float]], statistic: str, seed: int) -> tuple[float, float]:
    """The percentile bootstrap over clusters, one resample at a time."""
    clusters: dict[str, list[float]] = {}
    for cluster, value in values:
        clusters.setdefault(cluster, []).append(value)
    names, rng = list(clusters), np.random.default_rng(seed)
    resampled = []
    for _ in range(8000):
        drawn = [value for i in rng.integers(len(names), size=len(names)) for value in clusters[names[i]]]
        resampled.append(getattr(np, statistic)(drawn))
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("sizes", [[3] * 12, [1, 5, 2, 7, 3, 3, 1, 4, 2, 6]])
def test_the_interval_is_the_percentile_bootstrap_over_prompts(statistic: str, sizes: list[int]) -> None:
    rng = np.random.default_rng(7)
    values = [
        (f"prompt {number}", float(shift + 0.2 * rng.normal()))
        for number, (size, shift) in enumerate(zip(sizes, rng.normal(size=len(sizes)), strict=True))
        for _ in range(size)
    ]
    interval = bootstrap_interval(values, statistic)  # type: ignore[arg-type]
    low, high = bootstrap_slowly(values, statistic, seed=1)
    assert interval.value == pytest.approx(getattr(np, statistic)([value for _, value in values]))
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.15 * (high - low))
    ungrouped = bootstrap_interval([(str(i), value) for i, (_, value) in enumerate(values)], "mean")
    if statistic == "mean":
        assert interval.high - interval.low > 1.2 * (ungrouped.high - ungrouped.low), (
            "seeds of one prompt do not count as prompts"
        )


def test_the_images_of_a_single_prompt_are_resampled_one_by_one() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 7.0]
    interval = bootstrap_interval([("the only prompt", value) for value in values], "mean")
    assert interval == bootstrap_interval([(str(value), value) for value in values], "mean")
    assert interval.low < interval.value < interval.high


@pytest.mark.parametrize("values", [[("a", 0.7)], [("a", 0.1)] * 3, [("a", 2.0), ("b", 2.0), ("b", 2.0)]])
@pytest.mark.filterwarnings("error")
def test_the_interval_of_equal_values_has_no_width(values: list[tuple[str, float]]) -> None:
    for statistic in ("mean", "median"):
        interval = bootstrap_interval(values, statistic)  # type: ignore[arg-type]
        assert interval.low == interval.value == interval.high == pytest.approx(values[0][1])


@pytest.mark.filterwarnings("error")
def test_many_values_are_resampled_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    values = [(str(i), float(i % 17)) for i in range(300)]
    at_once = bootstrap_interval(values, "median")
    monkeypatch.setattr(statistics, "MOST_AT_ONCE", 40_000)
    assert bootstrap_interval(values, "median") == at_once


@given(st.lists(st.tuples(st.sampled_from("abcd"), NUMBERS), min_size=1, max_size=12))
@example([("a", 1.3259), ("a", 311135.284), ("b", 1.3259), ("b", 311135.284)])  # two clusters of the same mean
def test_an_interval_is_finite_ordered_and_reproducible(values: list[tuple[str, float]]) -> None:
    interval = bootstrap_interval(values, "mean")
    numbers = [value for _, value in values]
    assert min(numbers) - 1e-6 <= interval.low <= interval.high <= max(numbers) + 1e-6
    assert interval == bootstrap_interval(values, "mean")


@given(POINTS)
def test_the_front_has_all_points_that_no_other_dominates(points: list[Point]) -> None:
    def is_dominated(point: Point) -> bool:
        return any(
            other.seconds <= point.seconds
            and other.quality >= point.quality
            and (other.seconds < point.seconds or other.quality > point.quality)
            for other in points
        )

    assert find_pareto_front(points) == [not is_dominated(point) for point in points]


def test_fewer_steps_are_interpolated_between_neighbours_in_time() -> None:
    rivals = [Point(seconds=3, quality=0.9), Point(seconds=1, quality=0.5)]
    slow, fast = rivals
    assert interpolate_quality(rivals, 0.99) is None, "no rival is that fast"
    assert interpolate_quality(rivals, 1) == (0.5, (fast,))
    assert interpolate_quality(rivals, 2) == (pytest.approx(0.7), (fast, slow))
    assert interpolate_quality(rivals, 3) == interpolate_quality(rivals, 30) == (0.9, (slow,))


def test_a_faster_and_better_rival_counts_for_all_longer_times() -> None:
    rivals = [Point(seconds=1, quality=0.8), Point(seconds=2, quality=0.6), Point(seconds=4, quality=0.7)]
    found = [interpolate_quality(rivals, seconds) for seconds in (1, 1.5, 2, 3, 9)]
    assert found == [(0.8, (rivals[0],))] * 5


@given(POINTS.filter(len), st.floats(0.5, 10), st.floats(0.5, 10))
def test_more_time_never_reaches_less(rivals: list[Point], first: float, second: float) -> None:
    less, more = (interpolate_quality(rivals, seconds) for seconds in sorted((first, second)))
    assert less is None or (more is not None and more[0] >= less[0] - 1e-12)
    for rival in rivals:
        found = interpolate_quality(rivals, rival.seconds)
        assert found is not None and found[0] >= rival.quality
