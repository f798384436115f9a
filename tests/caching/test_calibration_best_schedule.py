"""The schedule chosen from a Gram matrix, against brute force over all schedules."""

from __future__ import annotations

from itertools import combinations, pairwise
from time import process_time

import numpy as np
import pytest

from tests.caching.sequences import gram_triangle, smooth_residuals
from wavespeed_runner.caching.calibration.best_schedule import MOST_STEPS, find_best_schedule
from wavespeed_runner.caching.predictors.fitted import fit_error
from wavespeed_runner.errors import ConfigError, Unfit


def compute_cost(gram: list[list[float]], schedule: list[int], history: int, importance: list[float]) -> float:
    """Sum over the gaps: the squared sum of the errors of its steps."""
    total = 0.0
    for i, (begin, end) in enumerate(pairwise(schedule), 1):
        history_so_far = tuple(schedule[:i][-history:])
        total += sum(importance[s] * fit_error(gram, history_so_far, s) ** 0.5 for s in range(begin + 1, end)) ** 2
    return total


@pytest.mark.parametrize("history", [2, 3])
@pytest.mark.parametrize("first", [1, 2, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_schedule_is_cheaper(history: int, first: int, weighted: bool) -> None:
    n = 10
    gram = gram_triangle(smooth_residuals(n, size=8, seed=first))
    importance = np.random.default_rng(first).uniform(0.1, 3, size=n).tolist() if weighted else [1.0] * n
    for computed in range(first + 1, n + 1):
        schedule = find_best_schedule(
            gram, computed, first=first, history=history, importance=importance if weighted else None
        )
        assert len(schedule) == computed and schedule == sorted(set(schedule))
        assert schedule[:first] == list(range(first)) and schedule[-1] == n - 1
        least = min(
            compute_cost(gram, [*range(first), *chosen, n - 1], history, importance)
            for chosen in combinations(range(first, n - 1), computed - first - 1)
        )
        assert compute_cost(gram, schedule, history, importance) == pytest.approx(least, rel=1e-9, abs=1e-12)


def test_more_steps_are_computed_where_they_are_important() -> None:
    gram = gram_triangle(smooth_residuals(20))
    early = find_best_schedule(gram, 8, first=2, importance=[100.0] * 10 + [1.0] * 10)
    late = find_best_schedule(gram, 8, first=2, importance=[1.0] * 10 + [100.0] * 10)
    assert sum(s < 10 for s in early) > sum(s < 10 for s in late)


def test_fifty_steps_take_less_than_two_seconds() -> None:
    gram = gram_triangle(smooth_residuals(50))
    start = process_time()
    assert len(find_best_schedule(gram, 25, first=1)) == 25
    assert process_time() - start < 2


@pytest.mark.parametrize(("computed", "first"), [(3, 3), (11, 1), (2, 0)])
def test_impossible_schedules_are_refused(computed: int, first: int) -> None:
    with pytest.raises(ConfigError, match=rf"computed={computed}, first={first}.*10 steps"):
        find_best_schedule(gram_triangle(smooth_residuals(10)), computed, first=first)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_residuals_of_zero_still_have_a_schedule(ridge: float) -> None:
    assert find_best_schedule(gram_triangle(np.zeros((6, 4))), 3, first=1, ridge=ridge)[-1] == 5


def test_a_step_whose_relative_error_is_infinite_is_computed() -> None:
    """Of a residual that is zero no relative error can be told, so the schedule avoids skipping it."""
    residuals = smooth_residuals(8)
    residuals[4] = 0
    assert 4 in find_best_schedule(gram_triangle(residuals), 4, first=2, ridge=0.1)


def test_a_step_of_no_importance_may_have_any_error() -> None:
    residuals = smooth_residuals(8)
    residuals[4] = 0
    gram, unimportant = gram_triangle(residuals), [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    schedule = find_best_schedule(gram, 4, first=2, ridge=0.1, importance=unimportant)
    assert 4 not in schedule and len(schedule) == 4


def test_more_steps_than_the_search_has_time_for() -> None:
    n = MOST_STEPS + 1
    with pytest.raises(Unfit, match=f"{n} steps: the steps of up to {MOST_STEPS} can be chosen so"):
        find_best_schedule([[1.0] * (i + 1) for i in range(n)], 50, first=1)
