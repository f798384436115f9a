"""Rules on when a cache strategy may act: thresholds, schedules, window and limits."""

from __future__ import annotations

import re
from dataclasses import replace

from ..caching.criteria.schedule import is_schedule, list_scheduled_steps
from ..caching.strategies import THRESHOLD_KEYS, find_threshold_key
from ..caching.window import count_head_blocks, list_computed_steps
from ..config.familiar_caches import read_window
from ..config.paths import CONF
from ..config.schema import CacheConfig, Config, Init
from ..models.family import Family
from .cache import get_name, has_all_parts, is_cached, uses_engine, watches_change
from .cache_calls import count_always_run, count_blocks, count_calls, count_calls_by_stage, explain_unfit_schedule
from .rule import Rule


def _get_threshold(c: Config) -> float | None:
    return getattr(c.cache.criterion, "threshold", None)


def _find_strategy_threshold(c: Config) -> tuple[str, float] | None:
    """The strategy's own key for its threshold, with its value."""
    return next(((key, getattr(c.cache, key)) for key in THRESHOLD_KEYS if hasattr(c.cache, key)), None)


def find_own_threshold(c: Config) -> float:
    """The threshold that the chosen option has in its own file, or in the one that it begins with."""
    key, name = find_threshold_key(c.cache).rpartition(".")[2], c.cache.title
    while name.isidentifier() and (file := CONF / "cache" / f"{name}.yaml").is_file():
        text = file.read_text(encoding="utf-8")
        if found := re.search(rf"^{key}: ([\d.]+)", text, re.MULTILINE):
            return float(found[1])
        below = re.search(r"^  - (\w+)$", text, re.MULTILINE)
        name = below[1] if below and below[1] != "_self_" else ""
    return getattr(type(c.cache)(), key, None) or 0.08


OFF = ", or cache=none: nothing would be reused"
"""What a limit of 0 means in other tools."""
ENOUGH = 12
"""Steps from which a cache that watches changes can hit."""

WINDOWS: tuple[Rule, ...] = (
    Rule(
        id="threshold",
        verdict="bad",
        when=lambda c, f: (_get_threshold(c) or 0) < 0,
        message=lambda c, f: (
            f"{find_threshold_key(c.cache)}: the threshold is {_get_threshold(c)}; 0 or more is needed"
        ),
        fix=lambda c, f: f"{find_threshold_key(c.cache)}={find_own_threshold(c):g}",
    ),
    Rule(
        id="threshold-twice",
        verdict="bad",
        when=lambda c, f: (
            _get_threshold(c) is not None
            and (own := _find_strategy_threshold(c)) is not None
            and own[1] != _get_threshold(c)
        ),
        message=lambda c, f: (
            f"cache.criterion.threshold={_get_threshold(c)} and {find_threshold_key(c.cache)}="
            f"{(_find_strategy_threshold(c) or ('', 0))[1]}: only the first would take effect"
        ),
        fix=lambda c, f: f"set {find_threshold_key(c.cache)} alone, the criterion follows it",
    ),
    Rule(
        id="key-twice",
        verdict="bad",
        when=lambda c, f: bool(_find_conflicting_keys(c)),
        message=lambda c, f: f"{_find_conflicting_keys(c)}: only the second would take effect",
        fix="set the first alone, the criterion follows it",
    ),
    Rule(
        id="computes-all",
        verdict="bad",
        when=lambda c, f: (
            not _skips_nothing(c, f)
            and 0 <= c.cache.start < c.cache.end <= 1
            and bool(found := _list_scheduled_steps(c, f))
            and get_name(c.cache.criterion) != "never"
            and all(len(steps) == n for steps, n in zip(found, count_calls_by_stage(c, f), strict=True))
        ),
        message="cache={c.cache.title}: its schedule computes every step, so the cache could not take effect",
        fix="fewer computed steps, a longer interval, or cache=none",
    ),
    Rule(
        id="computes-more",
        verdict="unverified",
        when=lambda c, f: bool(_describe_extra_steps(c, f)),
        message=lambda c, f: (
            f"cache={c.cache.title}: with this window and these limits it computes {_describe_extra_steps(c, f)}"
        ),
        fix="a wider window, or no limit",
    ),
    Rule(
        id="threshold-zero",
        verdict="unverified",
        when=lambda c, f: _get_threshold(c) == 0,
        message="a threshold of 0 never allows reuse: the run takes a little longer than without a cache",
        fix=lambda c, f: f"{find_threshold_key(c.cache)}={find_own_threshold(c):g}, or cache=none",
    ),
    Rule(
        id="window-order",
        verdict="bad",
        when=lambda c, f: is_cached(c) and not 0 <= c.cache.start < c.cache.end <= 1,
        message="cache.start={c.cache.start} cache.end={c.cache.end}: 0 <= start < end <= 1 is needed",
        fix=lambda c, f: _suggest_window(c.cache),
    ),
    Rule(
        id="window-empty",
        verdict="bad",
        when=lambda c, f: uses_engine(c) and _skips_nothing(c, f),
        message=lambda c, f: (
            f"cache.start={c.cache.start} cache.end={c.cache.end} cache.warmup_steps={c.cache.warmup_steps} "
            f"cache.force_last_step={str(c.cache.force_last_step).lower()}: "
            f"{_describe_few_steps(c, f) or f'none of {count_calls(c, f)} steps'} may be skipped (the first is always "
            "computed), so the cache could not take effect"
        ),
        fix=lambda c, f: f"{'a higher strength, ' if _describe_few_steps(c, f) else ''}a wider window, or more steps",
    ),
    Rule(
        id="hit-limit",
        verdict="bad",
        when=lambda c, f: is_cached(c) and not _is_valid_limit(c.cache.max_consecutive_cache_hits),
        message="cache.max_consecutive_cache_hits={c.cache.max_consecutive_cache_hits}: 1 or more, or -1 for no limit",
        fix=lambda c, f: "cache.max_consecutive_cache_hits=5" + OFF * (c.cache.max_consecutive_cache_hits == 0),
    ),
    Rule(
        id="total-limit",
        verdict="bad",
        when=lambda c, f: is_cached(c) and not _is_valid_limit(c.cache.max_cache_hits),
        message="cache.max_cache_hits={c.cache.max_cache_hits}: 1 or more, or -1 for no limit",
        fix=lambda c, f: "cache.max_cache_hits=-1" + OFF * (c.cache.max_cache_hits == 0),
    ),
    Rule(
        id="warmup",
        verdict="bad",
        when=lambda c, f: is_cached(c) and c.cache.warmup_steps < 0,
        message="cache.warmup_steps={c.cache.warmup_steps}: 0 or more",
        fix="cache.warmup_steps=0",
    ),
    Rule(
        id="blocks-left",
        verdict="bad",
        when=lambda c, f: uses_engine(c) and count_always_run(c) >= (count_blocks(c, f) or count_always_run(c) + 1),
        message=lambda c, f: (
            f"cache={c.cache.title}: the denoiser has {count_blocks(c, f)} blocks, and {count_always_run(c)} of them "
            f"would always run (cache.signal.blocks={count_head_blocks(c.cache)}, "
            f"cache.tail_blocks={c.cache.tail_blocks}), so nothing is left to skip"
        ),
        fix=lambda c, f: (
            "lower cache.signal.blocks and cache.tail_blocks, or "
            + ("model.init=random" if _has_more(c, f) else "cache=none")
        ),
        source="wavespeed_runner/caching/attach/attach.py",
    ),
    Rule(
        id="few-steps",
        verdict="unverified",
        when=lambda c, f: watches_change(c) and 1 < min(count_calls_by_stage(c, f)) <= 8,
        message=lambda c, f: (
            f"with {min(count_calls_by_stage(c, f))} steps each one changes much, and a cache that watches changes "
            "seldom hits: on the demo model First Block Cache never does with 8"
        ),
        fix=lambda c, f: "cache=none" if f.is_distilled(c.model) else f"{_describe_enough(c, f)}, or cache=none",
        source="python -m wavespeed_runner -m cache=fbcache steps=4,6,8",
    ),
)


def _has_more(c: Config, f: Family) -> bool:
    """True if of the model in its full size some blocks would be left."""
    full = replace(c, model=replace(c.model, init=Init.random))
    return (count_blocks(full, f) or 0) > count_always_run(full)


def _is_valid_limit(hits: int) -> bool:
    """True for a limit of at least 1, and for -1 (no limit)."""
    return hits == -1 or hits > 0


def _suggest_window(cache: CacheConfig) -> str:
    """Fractions; of percent, or of other tools' parts of 1000, those that they mean, counted from the noise on."""
    start, end, whole = read_window(cache.start, cache.end)
    if whole > 1 and 0 <= start < end <= 1:
        unit = "percent" if whole == 100 else f"parts of {whole} from the noise on"
        return f"fractions: taken as {unit}, cache.start={start:g} cache.end={end:g}"
    return "for example cache.start=0.2 cache.end=0.8"


def _skips_nothing(c: Config, f: Family) -> bool:
    """True if no step may be skipped; False if window or limits are not well formed, which other rules report."""
    w: CacheConfig = c.cache
    limits = _is_valid_limit(w.max_consecutive_cache_hits) and _is_valid_limit(w.max_cache_hits)
    well_formed = 0 <= w.start < w.end <= 1 and limits and w.warmup_steps >= 0
    return well_formed and all(
        steps >= 1 and len(list_computed_steps(w, steps)) == steps for steps in count_calls_by_stage(c, f)
    )


def _describe_few_steps(c: Config, f: Family) -> str:
    """`strength=0.1 leaves 3 of 28 steps to run, and none of them`; empty where all steps run."""
    most, whole = max(count_calls_by_stage(c, f)), count_calls(c, f)
    return f"strength={c.strength} leaves {most} of {whole} steps to run, and none of them" if most < whole else ""


def _describe_enough(c: Config, f: Family) -> str:
    """How many steps a run needs for a cache that watches changes; of a run that starts from an image, all of them."""
    for steps in range(ENOUGH, 20 * ENOUGH):
        run = min(count_calls_by_stage(replace(c, steps=steps), f))
        if run >= ENOUGH:
            return f"{steps} steps or more" + (f" (strength={c.strength} runs {run} of them)" if run < steps else "")
    return f"stages of {ENOUGH} steps or more"


def _list_scheduled_steps(c: Config, f: Family) -> list[list[int]]:
    """The steps that a schedule computes, of each denoise stage; empty for a criterion that decides as it runs."""
    if not has_all_parts(c) or not is_schedule(c.cache.criterion) or explain_unfit_schedule(c, f):
        return []
    if getattr(c.cache.criterion, "schedule", ()) is None:
        return []
    return [
        computed
        for steps in count_calls_by_stage(c, f)
        if (computed := list_scheduled_steps(c.cache.criterion, steps, c.cache)) is not None
    ]


def _describe_extra_steps(c: Config, f: Family) -> str:
    """How many steps a schedule computes, if window or limits make that more than was asked for; otherwise empty."""
    asked = getattr(c.cache.criterion, "computed", None)
    count = len(asked) if isinstance(asked, list) else asked
    counts = [len(steps) for steps in _list_scheduled_steps(c, f)]
    return next((f"{n} steps, not {count}" for n in counts if isinstance(count, int) and n > count), "")


def _find_conflicting_keys(c: Config) -> str:
    """A key that the strategy and its criterion both have, with different values; empty if there is none."""
    for key in ("computed", "interval"):
        own, used = getattr(c.cache, key, None), getattr(c.cache.criterion, key, None)
        if own is not None and used is not None and own != used:
            return f"cache.{key}={own} and cache.criterion.{key}={used}"
    return ""
