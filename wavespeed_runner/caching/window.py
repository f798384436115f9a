"""The window and the limits: where a strategy may act, whatever its criterion says."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import CacheConfig


@dataclass(kw_only=True)
class Hits:
    """Skipped steps so far, of one image in one guidance branch."""

    in_a_row: int = 0
    total: int = 0

    def count(self, skipped: bool) -> None:
        self.in_a_row = self.in_a_row + 1 if skipped else 0
        self.total += skipped


def inside(window: CacheConfig, step: int, steps: int) -> bool:
    """Whether step `step` of `steps`, counted from 0, may be skipped: start <= step/steps < end, behind the warm-up,
    and not the last one where that is forced."""
    forced = step < window.warmup_steps or (window.force_last_step and step == steps - 1)
    return not forced and window.start <= step / steps < window.end


def allows(window: CacheConfig, step: int, steps: int, hits: Hits) -> bool:
    """`inside`, and neither the run of skipped steps before this one nor their number is at its limit."""
    row, total = window.max_consecutive_cache_hits, window.max_cache_hits
    return inside(window, step, steps) and (row < 0 or hits.in_a_row < row) and (total < 0 or hits.total < total)


def computed_steps(window: CacheConfig, steps: int) -> list[int]:
    """Steps, counted from 1, that are computed under a criterion that always wants to reuse."""
    computed: list[int] = []
    hits = Hits()
    for step in range(steps):
        skipped = step > 0 and allows(window, step, steps, hits)
        hits.count(skipped)
        if not skipped:
            computed.append(step + 1)
    return computed


def head_blocks(cache: CacheConfig) -> int:
    """How many blocks run before the decision: as many as the signal looks at."""
    return int(getattr(cache.signal, "blocks", 0))
