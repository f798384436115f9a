"""The search for schedules: it finds what brute force finds where the way is smooth, and keeps to its tries."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.calibration.schedule_search import Schedule, search_schedule

STEPS = 10


def every(count: int) -> list[Schedule]:
    return [(0, *rest) for rest in combinations(range(1, STEPS), count - 1)]


@given(st.lists(st.integers(1, STEPS - 1), min_size=3, max_size=3, unique=True).map(sorted))
def test_it_finds_the_best_of_a_smooth_cost(target: list[int]) -> None:
    """The distance to a target has no other valley."""

    def cost(schedule: Schedule) -> float:
        return float(sum(abs(a - b) for a, b in zip(schedule[1:], target, strict=True)))

    best, least = search_schedule(cost, [(0, 1, 2, 3)], STEPS, tries=len(every(4)))
    assert (best, least) == ((0, *target), min(map(cost, every(4))))


@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_it_never_gets_worse_keeps_to_its_tries_and_tries_nothing_twice(random: object, tries: int) -> None:
    costs = {schedule: random.random() for schedule in every(5)}  # type: ignore[attr-defined]
    tried: list[Schedule] = []

    def cost(schedule: Schedule) -> float:
        tried.append(schedule)
        return costs[schedule]

    starts = [(0, 2, 4, 6, 8), (0, 1, 2, 3, 4), (0, 2, 4, 6, 8)]
    best, least = search_schedule(cost, starts, STEPS, tries=tries)
    assert least == costs[best] == min(costs[schedule] for schedule in tried)
    assert len(tried) == len(set(tried)) <= max(tries, 2)
    assert all(schedule[0] == 0 and len(schedule) == 5 for schedule in tried)
