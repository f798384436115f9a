"""The window: where a strategy may act, whatever its criterion says."""

from __future__ import annotations

from ..config import CacheConfig


def inside(window: CacheConfig, step: int, steps: int) -> bool:
    """Whether step `step` of `steps`, counted from 0, may be skipped: start <= step/steps < end."""
    return window.start <= step / steps < window.end


def allows(window: CacheConfig, step: int, steps: int, consecutive_hits: int) -> bool:
    """`inside`, and the run of skipped steps before this one is shorter than the limit."""
    limit = window.max_consecutive_cache_hits
    return inside(window, step, steps) and (limit < 0 or consecutive_hits < limit)


def computed_steps(window: CacheConfig, steps: int) -> list[int]:
    """Steps, counted from 1, that are computed under a criterion that always wants to reuse."""
    computed: list[int] = []
    hits = 0
    for step in range(steps):
        if step > 0 and allows(window, step, steps, hits):
            hits += 1
        else:
            hits = 0
            computed.append(step + 1)
    return computed
