"""The window: at which steps a strategy may reuse at all, whatever its criterion decides."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import CacheConfig


@dataclass(kw_only=True)
class CacheHits:
    """Cached steps so far, of one image in one guidance branch."""

    in_a_row: int = 0
    total: int = 0

    def count(self, skipped: bool) -> None:
        """Counts one step."""
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        self.total += skipped


def is_inside_window(window: CacheConfig, step: int, steps: int) -> bool:
    """True if step `step` of `steps`, counted from 0, may be cached: start <= step/steps < end.

    False as well during the warm-up, and for the last step where `force_last_step` is set.
    """
    forced = step < window.warmup_steps or (window.force_last_step and step == steps - 1)
    return not forced and window.start <= step / steps < window.end


def is_reuse_allowed(window: CacheConfig, step: int, steps: int, hits: CacheHits) -> bool:
    """True if the step is inside the window and neither limit on cache hits is reached (a negative one: no limit)."""
    row, total = window.max_consecutive_cache_hits, window.max_cache_hits
    within_limits = (row < 0 or hits.in_a_row < row) and (total < 0 or hits.total < total)
    return is_inside_window(window, step, steps) and within_limits


def list_computed_steps(window: CacheConfig, steps: int) -> list[int]:
    """Steps, counted from 1, that are computed although the criterion would reuse at every step."""
    computed: list[int] = []
    hits = CacheHits()
    for step in range(steps):
        skipped = step > 0 and is_reuse_allowed(window, step, steps, hits)
        hits.count(skipped)
        if not skipped:
            computed.append(step + 1)
    return computed


def count_head_blocks(cache: CacheConfig) -> int:
    """How many blocks run before the decision: those that the signal needs."""
    return int(getattr(cache.signal, "blocks", 0))
