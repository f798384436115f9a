"""Rules on when a cache strategy may act: thresholds, schedules, window and limits."""

from __future__ import annotations

from ..caching.criteria.schedule import is_schedule, list_scheduled_steps
from ..caching.strategies import THRESHOLD_KEYS, find_threshold_key
from ..caching.window import list_computed_steps
from ..config.schema import CacheConfig, Config
from ..models.family import Family
from .cache import cached, calls, composed, name_of, runs, unfit_for, whole
from .rule import Rule


def _threshold(c: Config) -> float | None:
    return getattr(c.cache.criterion, "threshold", None)


def _own_threshold(c: Config) -> tuple[str, float] | None:
    """The strategy's own key for its threshold, and its value."""
    return next(((key, getattr(c.cache, key)) for key in THRESHOLD_KEYS if hasattr(c.cache, key)), None)


WINDOWS: tuple[Rule, ...] = (
    Rule(
        id="threshold",
        verdict="bad",
        when=lambda c, f: (_threshold(c) or 0) < 0,
        message=lambda c, f: f"{find_threshold_key(c.cache)}: the threshold is {_threshold(c)}; 0 or more is needed",
        fix=lambda c, f: f"{find_threshold_key(c.cache)}=0.08",
    ),
    Rule(
        id="threshold-twice",
        verdict="bad",
        when=lambda c, f: (
            _threshold(c) is not None and (own := _own_threshold(c)) is not None and own[1] != _threshold(c)
        ),
        message=lambda c, f: (
            f"cache.criterion.threshold={_threshold(c)} and {find_threshold_key(c.cache)}="
            f"{(_own_threshold(c) or ('', 0))[1]}: only the first would take effect"
        ),
        fix=lambda c, f: f"set {find_threshold_key(c.cache)} alone, the criterion follows it",
    ),
    Rule(
        id="key-twice",
        verdict="bad",
        when=lambda c, f: bool(_alias(c)),
        message=lambda c, f: f"{_alias(c)}: only the second would take effect",
        fix="set the first alone, the criterion follows it",
    ),
    Rule(
        id="computes-all",
        verdict="bad",
        when=lambda c, f: (
            not _nothing_allowed(c, f)
            and bool(found := _foreseen(c, f))
            and name_of(c.cache.criterion) != "never"
            and all(len(steps) == n for steps, n in zip(found, runs(c, f), strict=True))
        ),
        message="cache={c.cache.name}: its schedule computes every step, so the cache could not take effect",
        fix="fewer computed steps, a longer interval, or cache=none",
    ),
    Rule(
        id="computes-more",
        verdict="unverified",
        when=lambda c, f: bool(_more(c, f)),
        message=lambda c, f: f"cache={c.cache.name}: with this window and these limits it computes {_more(c, f)}",
        fix="a wider window, or no limit",
    ),
    Rule(
        id="threshold-zero",
        verdict="unverified",
        when=lambda c, f: _threshold(c) == 0,
        message="a threshold of 0 never allows reuse: the run costs what no cache costs, and a little more",
        fix=lambda c, f: f"{find_threshold_key(c.cache)}=0.08, or cache=none",
    ),
    Rule(
        id="window-order",
        verdict="bad",
        when=lambda c, f: cached(c) and not 0 <= c.cache.start < c.cache.end <= 1,
        message="cache.start={c.cache.start} cache.end={c.cache.end}: 0 <= start < end <= 1 is needed",
        fix="for example cache.start=0.2 cache.end=0.8",
    ),
    Rule(
        id="window-empty",
        verdict="bad",
        when=lambda c, f: composed(c) and _nothing_allowed(c, f),
        message=lambda c, f: (
            f"cache.start={c.cache.start} cache.end={c.cache.end} cache.warmup_steps={c.cache.warmup_steps} "
            f"cache.force_last_step={str(c.cache.force_last_step).lower()}: none of {calls(c, f)} steps may be "
            "skipped (the first is always computed), so the cache could not take effect"
        ),
        fix="a wider window, or more steps",
    ),
    Rule(
        id="hit-limit",
        verdict="bad",
        when=lambda c, f: cached(c) and not _limit(c.cache.max_consecutive_cache_hits),
        message="cache.max_consecutive_cache_hits={c.cache.max_consecutive_cache_hits}: 1 or more, or -1 for no limit",
        fix="cache.max_consecutive_cache_hits=5",
    ),
    Rule(
        id="total-limit",
        verdict="bad",
        when=lambda c, f: cached(c) and not _limit(c.cache.max_cache_hits),
        message="cache.max_cache_hits={c.cache.max_cache_hits}: 1 or more, or -1 for no limit",
        fix="cache.max_cache_hits=-1",
    ),
    Rule(
        id="warmup",
        verdict="bad",
        when=lambda c, f: cached(c) and c.cache.warmup_steps < 0,
        message="cache.warmup_steps={c.cache.warmup_steps}: 0 or more",
        fix="cache.warmup_steps=0",
    ),
    Rule(
        id="few-steps",
        verdict="unverified",
        when=lambda c, f: cached(c) and 1 < (c.steps or 0) <= 8,
        message="with {c.steps} steps each changes much, and a cache seldom or never hits",
        fix=lambda c, f: "cache=none" if f.is_distilled(c.model) else "12 steps or more, or cache=none",
        source="https://github.com/X-GenGroup/Flow-Factory/issues/196",
    ),
)


def _limit(hits: int) -> bool:
    """Whether it is well formed."""
    return hits == -1 or hits > 0


def _nothing_allowed(c: Config, f: Family) -> bool:
    """Only said when window and limits are well formed; the rules on them speak otherwise."""
    w: CacheConfig = c.cache
    limits = _limit(w.max_consecutive_cache_hits) and _limit(w.max_cache_hits)
    well_formed = 0 <= w.start < w.end <= 1 and limits and w.warmup_steps >= 0
    return well_formed and all(steps >= 1 and len(list_computed_steps(w, steps)) == steps for steps in runs(c, f))


def _foreseen(c: Config, f: Family) -> list[list[int]]:
    """The steps that a schedule computes, of each denoise stage; empty for what decides while it runs."""
    if not whole(c) or not is_schedule(c.cache.criterion) or unfit_for(c, f):
        return []
    if getattr(c.cache.criterion, "schedule", ()) is None:
        return []
    return [
        found for steps in runs(c, f) if (found := list_scheduled_steps(c.cache.criterion, steps, c.cache)) is not None
    ]


def _more(c: Config, f: Family) -> str:
    """How many steps a schedule computes, where window or limits make that more than it was asked for."""
    asked = getattr(c.cache.criterion, "computed", None)
    count = len(asked) if isinstance(asked, list) else asked
    found = [len(steps) for steps in _foreseen(c, f)]
    return next((f"{n} steps, not {count}" for n in found if isinstance(count, int) and n > count), "")


def _alias(c: Config) -> str:
    """A key of the strategy that its criterion was told otherwise."""
    for key in ("computed", "interval"):
        own, used = getattr(c.cache, key, None), getattr(c.cache.criterion, key, None)
        if own is not None and used is not None and own != used:
            return f"cache.{key}={own} and cache.criterion.{key}={used}"
    return ""
