"""cache-dit's step masks: runs of computed and of cached steps, for any number of steps that its formula takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, zip_longest

Runs = tuple[Sequence[int], Sequence[int]]
"""Lengths of the runs of computed steps, and of the runs of cached ones that follow each."""
LEAST_STRETCHED = 8
"""Below it, only the listed numbers of steps have a mask."""


def choose_by_runs(table: Mapping[int, Runs], steps: int) -> list[int] | None:
    """The computed steps, counted from 1, in order; the last step is always among them.

    The formula is that of `steps_mask` in cache-dit, https://github.com/vipshop/cache-dit. A listed number of steps has
    its listed runs. Between two listed ones, the runs of the larger are shortened from the end. Above the largest, its
    runs are stretched in proportion, one after the other until they are long enough.

    Args:
        table: number of steps -> runs.
        steps: of the generation.

    Returns:
        None: there is no mask for so few steps.
    """
    if steps not in table and steps < LEAST_STRETCHED:
        return None
    listed = min((n for n in table if n >= steps), default=max(table))
    computed, cached = (list(lengths) for lengths in table[listed])
    if listed < steps:
        _stretch(computed, cached, steps, factor=steps / listed * 0.5)
    _shorten(computed, cached, steps)
    mask = [
        is_computed
        for lengths in zip_longest(computed, cached, fillvalue=0)
        for is_computed, length in zip((True, False), lengths, strict=True)
        for _ in range(length)
    ]
    return [step for step, is_computed in enumerate(mask, 1) if is_computed or step == steps]


def _stretch(computed: list[int], cached: list[int], steps: int, *, factor: float) -> None:
    """Lengthens each run by a share of what it was, at least by a step; the last computed run by one a round."""
    pairs = min(len(computed), len(cached))
    growth = [max(int(lengths[i] * factor), 1) for i in range(pairs) for lengths in (tuple(computed), tuple(cached))]
    turns = [(lengths, i) for i in range(pairs) for lengths in (computed, cached)]
    for (lengths, i), more in cycle([*zip(turns, growth, strict=True), ((computed, -1), 1)]):
        if sum(computed) + sum(cached) >= steps:
            return
        lengths[i] += more


def _shorten(computed: list[int], cached: list[int], steps: int) -> None:
    """Takes steps from the last run of each kind in turn, cached ones first."""
    for lengths in cycle((cached, computed)):
        if sum(computed) + sum(cached) <= steps:
            return
        if lengths:
            lengths[-1] -= 1
            if not lengths[-1]:
                lengths.pop()
