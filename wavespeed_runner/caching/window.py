"""The window: at which steps a strategy may reuse at all, whatever its criterion decides."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

from ..config.schema import CacheConfig, Rounding, Window
from .interfaces import Criterion, StepInfo


@dataclass(kw_only=True)
class CacheHits:
    """Cached steps so far, of one image in one guidance branch."""

    in_a_row: int = 0
    total: int = 0

    def count(self, skipped: bool) -> None:
        """Counts one step."""
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        self.total += skipped


def is_inside_window(window: CacheConfig, at: StepInfo) -> bool:
    """True if a step may be cached: it lies between start and end, and neither warm-up nor `force_last_step` forbids.

    Where `at.progress` is not known, which it is not before a run with `window=timesteps` or `sigmas`, it is taken to
    lie between them.
    """
    forced = at.step < window.warmup_steps or (window.force_last_step and at.step == at.steps - 1)
    return not forced and _is_between(window, at)


def _is_between(window: CacheConfig, at: StepInfo) -> bool:
    if window.window is Window.steps:
        part = at.step / at.steps
        is_started = at.step >= count_first_steps(window.start, window.start_rounding, at.steps)
        return is_started and (part < window.end or (window.include_end and part == window.end))
    return at.progress is None or window.start <= at.progress <= window.end


def count_first_steps(start: float, rounding: Rounding, steps: int) -> int:
    """How many first steps a window of `window=steps` has before it."""
    if rounding is Rounding.up:
        return next((step for step in range(steps) if start <= step / steps), steps)
    return int(start * steps + (0.5 if rounding is Rounding.nearest else 0))


def is_within_limits(window: CacheConfig, hits: CacheHits) -> bool:
    """True if neither limit on cache hits is reached; a negative one is none."""
    row, total = window.max_consecutive_cache_hits, window.max_cache_hits
    return (row < 0 or hits.in_a_row < row) and (total < 0 or hits.total < total)


def is_reuse_allowed(window: CacheConfig, at: StepInfo, hits: CacheHits) -> bool:
    """True if the step is inside the window and neither limit on cache hits is reached."""
    return is_inside_window(window, at) and is_within_limits(window, hits)


def ask(
    criterion: Criterion, window: CacheConfig, numbers: tuple[float, ...] | None, at: StepInfo, hits: CacheHits
) -> bool:
    """Whether a step is cached: the criterion is asked where the window and the limits allow it.

    A criterion with a method `pass_by(numbers, at)` is told of steps outside of the window.

    Args:
        criterion: of the image.
        window: the strategy, with its window and limits.
        numbers: what has changed; None where there is nothing to compare with, or nothing to reuse yet.
        at: the step.
        hits: so far.
    """
    if numbers is not None and is_reuse_allowed(window, at, hits):
        return criterion.should_reuse(numbers, at)
    if not is_inside_window(window, at) and hasattr(criterion, "pass_by"):
        criterion.pass_by(numbers, at)
    criterion.level = None
    return False


def list_computed_steps(window: CacheConfig, steps: int) -> list[int]:
    """Steps, counted from 1, that are computed although the criterion would reuse at every step."""
    computed: list[int] = []
    hits = CacheHits()
    for step in range(steps):
        at = StepInfo(step=step, steps=steps, sigma=nan)
        skipped = step > 0 and is_reuse_allowed(window, at, hits)
        hits.count(skipped)
        if not skipped:
            computed.append(step + 1)
    return computed


def count_head_blocks(cache: CacheConfig) -> int:
    """How many blocks run before the decision: those that the signal needs."""
    return int(getattr(cache.signal, "blocks", 0))
