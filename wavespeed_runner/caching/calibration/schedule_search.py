"""Searches for the best steps to compute by moving one step at a time and measuring the images.

The cost of a skipped step is more than the error of its residual: an early error can turn one image into another. So
the images decide. This is a coordinate search over the computed steps, like the hill climbing of BudCache (ICML 2026).
Its starting point, `best_schedule.find_best_schedule`, takes no run and is most of the way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

REACH = 3
"""How far a computed step is moved in one try."""

Schedule = tuple[int, ...]
"""Computed steps, counted from 0, ascending."""


def search_schedule(
    cost: Callable[[Schedule], float], starts: Sequence[Schedule], steps: int, *, tries: int
) -> tuple[Schedule, float]:
    """The cheapest schedule found, and its cost.

    Args:
        cost: what is minimised; called once for each schedule that is tried.
        starts: tried first; the search goes on from the best of them. Step 0 stays in the schedule.
        steps: number of steps of the generation.
        tries: maximum number of schedules to try.
    """
    costs = {start: cost(start) for start in list(dict.fromkeys(starts))[:tries]}
    best = min(costs, key=lambda schedule: costs[schedule])
    improved = True
    while improved and len(costs) < tries:
        improved = False
        for candidate in _list_neighbours(best, steps):
            if candidate not in costs and len(costs) < tries:
                costs[candidate] = cost(candidate)
                if costs[candidate] < costs[best]:
                    best, improved = candidate, True
                    break
    return best, costs[best]


def _list_neighbours(schedule: Schedule, steps: int) -> Iterator[Schedule]:
    """Schedules with one step moved: short moves first, and late steps first, because those are free to move."""
    for distance in range(1, REACH + 1):
        for index in range(len(schedule) - 1, 0, -1):
            for to in (schedule[index] - distance, schedule[index] + distance):
                if 0 < to < steps and to not in schedule:
                    yield tuple(sorted({*schedule[:index], to, *schedule[index + 1 :]}))
