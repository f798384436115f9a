"""Searches the steps to compute: from a schedule that a calibration suggests, by measured quality, step by step better.

What a skipped step costs is not the error of its residual alone: an early error forks one image into another. So the
last word is that of the image. Coordinate search over the computed steps, as in BudCache (ICML 2026) its hill
climbing; the start, and with it most of the way, comes from `fitted.best_schedule` without a single run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

REACH = 3
"""How far a computed step is moved in one try."""

Schedule = tuple[int, ...]
"""Computed steps, counted from 0, in order."""


def search_schedule(
    cost: Callable[[Schedule], float], starts: Sequence[Schedule], steps: int, *, tries: int
) -> tuple[Schedule, float]:
    """The best schedule met, and its cost.

    Args:
        cost: what is to be made small; called once for each schedule that is tried.
        starts: they are tried first; the best one is where the search begins; step 0 stays in it.
        steps: of the whole generation.
        tries: how many schedules are tried at most.
    """
    known = {start: cost(start) for start in list(dict.fromkeys(starts))[:tries]}
    best = min(known, key=lambda schedule: known[schedule])
    improved = True
    while improved and len(known) < tries:
        improved = False
        for candidate in _neighbours(best, steps):
            if candidate not in known and len(known) < tries:
                known[candidate] = cost(candidate)
                if known[candidate] < known[best]:
                    best, improved = candidate, True
                    break
    return best, known[best]


def _neighbours(schedule: Schedule, steps: int) -> Iterator[Schedule]:
    """Schedules with one step moved, near moves first and late steps first: those are free to move."""
    for distance in range(1, REACH + 1):
        for index in range(len(schedule) - 1, 0, -1):
            for to in (schedule[index] - distance, schedule[index] + distance):
                if 0 < to < steps and to not in schedule:
                    yield tuple(sorted({*schedule[:index], to, *schedule[index + 1 :]}))
