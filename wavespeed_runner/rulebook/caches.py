"""Rules on cache strategies: what they attach to, their thresholds and their window."""

from __future__ import annotations

from ..caching.window import inside
from ..config import Config
from ..models.family import Family
from ..samplers import denoiser_calls, taken
from .rule import Rule


def cached(c: Config) -> bool:
    """Whether a strategy is on."""
    return c.cache.name != "none"


def _threshold(c: Config) -> float | None:
    return getattr(c.cache.criterion, "threshold", None)


CACHES: tuple[Rule, ...] = (
    Rule(
        id="cache-off",
        verdict="bad",
        when=lambda c, f: not cached(c) and c.cache != type(c.cache)(),
        message="cache=none with cache.start={c.cache.start} cache.end={c.cache.end} "
        "cache.max_consecutive_cache_hits={c.cache.max_consecutive_cache_hits}: nothing is skipped, so they could not "
        "take effect",
        fix="cache=fbcache, or leave cache.KEY=VALUE out",
    ),
    Rule(
        id="cache-attaches",
        verdict="bad",
        when=lambda c, f: cached(c) and f.blocks is None,
        message="cache={c.cache.name}: this model has no blocks that a block cache can skip",
        fix="cache=none",
    ),
    Rule(
        id="batch-cache",
        verdict="bad",
        when=lambda c, f: cached(c) and c.batch_size > 1,
        message="batch_size={c.batch_size} with cache={c.cache.name}: the strategy would decide for all pictures of a "
        "batch together, and each would depend on its neighbours",
        fix="batch_size=1, or cache=none",
        source="tests/test_batches.py",
    ),
    Rule(
        id="cache-parts",
        verdict="bad",
        when=lambda c, f: cached(c) and None in (c.cache.signal, c.cache.criterion, c.cache.predictor),
        message="cache={c.cache.name}: a strategy needs a signal, a criterion and a predictor",
        fix="name all three in its defaults list",
    ),
    Rule(
        id="cache-head",
        verdict="bad",
        when=lambda c, f: getattr(c.cache.signal, "blocks", 1) < 1,
        message="cache.signal.blocks={c.cache.signal.blocks}: at least one block must run to see what has changed",
        fix="cache.signal.blocks=1",
    ),
    Rule(
        id="cache-one",
        verdict="good",
        when=lambda c, f: cached(c) and f.blocks is not None,
        message="one cache strategy, {c.cache.name}, on the denoiser; two at once are not possible here",
        source="tests/caching/test_engine.py",
    ),
    Rule(
        id="threshold",
        verdict="bad",
        when=lambda c, f: (_threshold(c) or 0) < 0,
        message="cache.criterion.threshold={c.cache.criterion.threshold} (it follows cache.residual_diff_threshold): "
        "0 or more is needed",
        fix="cache.residual_diff_threshold=0.08",
    ),
    Rule(
        id="threshold-twice",
        verdict="bad",
        when=lambda c, f: (
            _threshold(c) is not None and getattr(c.cache, "residual_diff_threshold", None) not in (None, _threshold(c))
        ),
        message="cache.criterion.threshold={c.cache.criterion.threshold} and cache.residual_diff_threshold="
        "{c.cache.residual_diff_threshold}: only the first would take effect",
        fix="set cache.residual_diff_threshold alone, the criterion follows it",
    ),
    Rule(
        id="threshold-zero",
        verdict="unverified",
        when=lambda c, f: _threshold(c) == 0,
        message="a threshold of 0 never allows reuse: the run costs what no cache costs, and a little more",
        fix="cache.residual_diff_threshold=0.08, or cache=none",
    ),
    Rule(
        id="window-order",
        verdict="bad",
        when=lambda c, f: cached(c) and not 0 <= c.cache.start < c.cache.end <= 1,
        message="cache.start={c.cache.start} cache.end={c.cache.end}: 0 <= start < end <= 1 is needed",
        fix="cache.start=0.2 cache.end=0.8",
    ),
    Rule(
        id="window-empty",
        verdict="bad",
        when=lambda c, f: cached(c) and _no_step_inside(c, f),
        message="cache.start={c.cache.start} cache.end={c.cache.end}: none of {c.steps} steps lies inside "
        "(the first is always computed), so the cache could not take effect",
        fix="a wider window, or more steps",
    ),
    Rule(
        id="hit-limit",
        verdict="bad",
        when=lambda c, f: (
            cached(c) and (c.cache.max_consecutive_cache_hits < -1 or c.cache.max_consecutive_cache_hits == 0)
        ),
        message="cache.max_consecutive_cache_hits={c.cache.max_consecutive_cache_hits}: 1 or more, or -1 for no limit",
        fix="cache.max_consecutive_cache_hits=5",
    ),
    Rule(
        id="few-steps",
        verdict="unverified",
        when=lambda c, f: cached(c) and 1 < (c.steps or 0) <= 8,
        message="with {c.steps} steps each changes much, and a cache seldom or never hits",
        fix=lambda c, f: "cache=none" if f.distilled(c.model) else "12 steps or more, or cache=none",
        source="https://github.com/X-GenGroup/Flow-Factory/issues/196",
    ),
)


def _no_step_inside(c: Config, f: Family) -> bool:
    """Only said when the window itself is well formed; `window-order` speaks otherwise."""
    steps = denoiser_calls(taken(f, c.model, c.sampler), c.steps or 0)
    well_formed = 0 <= c.cache.start < c.cache.end <= 1
    return well_formed and steps >= 1 and not any(inside(c.cache, step, steps) for step in range(1, steps))
