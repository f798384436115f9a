"""Rules on cache strategies: what they attach to, whether their parts fit together, thresholds, window and limits."""

from __future__ import annotations

from dataclasses import fields
from math import ceil
from typing import Any

from ..caching import published
from ..caching.criteria import AccumulatedPolynomial
from ..caching.schedules import MAKERS, Interval, Spacing, computed_by, unfit
from ..caching.strategies import THRESHOLDS
from ..caching.window import computed_steps
from ..config import CacheConfig, Config
from ..models.family import Blocks, Family
from ..registry import implementation_of
from ..samplers import denoiser_calls, taken
from .graphs import denoising, takes_strength
from .rule import Rule


def cached(c: Config) -> bool:
    """Whether a strategy is on."""
    return c.cache.name != "none"


def composed(c: Config) -> bool:
    """Whether it is one of signal, criterion and predictor, not one of diffusers' own."""
    return cached(c) and implementation_of("cache", c.cache) is None


def _whole(c: Config) -> bool:
    return composed(c) and None not in (c.cache.signal, c.cache.criterion, c.cache.predictor)


def _threshold(c: Config) -> float | None:
    return getattr(c.cache.criterion, "threshold", None)


def _own_threshold(c: Config) -> tuple[str, float] | None:
    """The strategy's own key for its threshold, and its value."""
    return next(((key, getattr(c.cache, key)) for key in THRESHOLDS if hasattr(c.cache, key)), None)


def _threshold_key(c: Config) -> str:
    own = _own_threshold(c)
    return f"cache.{own[0]}" if own else "cache.criterion.threshold"


def _watches(c: Config) -> str:
    """What the criterion looks at: see `caching.parts.Criterion`."""
    return str(implementation_of("cache/criterion", c.cache.criterion).watches) if c.cache.criterion else ""


def _head(c: Config) -> int:
    return getattr(c.cache.signal, "blocks", 0)


def _steps(c: Config, f: Family) -> int:
    """Calls of the denoiser that a guidance branch makes."""
    return denoiser_calls(taken(f, c.model, c.sampler), c.steps or 0)


def _runs(c: Config, f: Family) -> list[int]:
    """The same for each denoise stage: one that starts from a picture runs part of the steps. Flow models round up, the
    others down."""
    found = []
    for stage in denoising(c):
        own = stage.options if isinstance(stage.options, dict) else {}
        part = own.get("strength", c.strength) if takes_strength(stage, f) else 1.0
        steps = own.get("steps", c.steps) or 0
        if isinstance(part, int | float) and isinstance(steps, int):
            kept = min(steps * part, steps)
            found.append(
                denoiser_calls(taken(f, c.model, c.sampler), ceil(kept) if f.schedule == "flow" else int(kept))
            )
    return found or [_steps(c, f)]


def _unfit(c: Config, f: Family) -> str:
    """Why a schedule cannot be made for the steps of some stage; empty: it can."""
    return next((why for steps in _runs(c, f) if (why := unfit(c.cache.criterion, steps))), "")


def _changed(c: Config) -> str:
    """Keys of the strategy that are not at their defaults."""
    plain: Any = type(c.cache)()
    names = [field.name for field in fields(c.cache) if getattr(c.cache, field.name) != getattr(plain, field.name)]
    return " ".join(f"cache.{name}={getattr(c.cache, name)}" for name in names)


CACHES: tuple[Rule, ...] = (
    Rule(
        id="cache-off",
        verdict="bad",
        when=lambda c, f: not cached(c) and c.cache != type(c.cache)(),
        message=lambda c, f: f"cache=none with {_changed(c)}: nothing is skipped, so it could not take effect",
        fix="cache=fbcache, or leave cache.KEY=VALUE out",
    ),
    Rule(
        id="cache-attaches",
        verdict="bad",
        when=lambda c, f: composed(c) and f.blocks is None,
        message="cache={c.cache.name}: it is not known what this model repeats at each step, so nothing can be skipped",
        fix="cache=none",
    ),
    Rule(
        id="cache-parts",
        verdict="bad",
        when=lambda c, f: composed(c) and not _whole(c),
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
        id="cache-tail",
        verdict="bad",
        when=lambda c, f: cached(c) and c.cache.tail_blocks < 0,
        message="cache.tail_blocks={c.cache.tail_blocks}: 0 or more last blocks can always run",
        fix="cache.tail_blocks=0",
    ),
    Rule(
        id="tail-family",
        verdict="bad",
        when=lambda c, f: (
            composed(c) and c.cache.tail_blocks > 0 and not (isinstance(f.blocks, Blocks) and f.blocks.tail)
        ),
        message="cache.tail_blocks={c.cache.tail_blocks}: this model's last blocks cannot run behind skipped ones",
        fix="cache.tail_blocks=0",
    ),
    Rule(
        id="depth-family",
        verdict="bad",
        when=lambda c, f: composed(c) and c.cache.depth is not None and isinstance(f.blocks, Blocks),
        message="cache={c.cache.name} with cache.depth={c.cache.depth}: only a U-Net has layers that mirror each other",
        fix="cache=fbcache, cache=taylorseer, or another strategy for transformers (docs/support.md)",
        source="https://arxiv.org/abs/2312.00858",
    ),
    Rule(
        id="depth-value",
        verdict="bad",
        when=lambda c, f: cached(c) and c.cache.depth is not None and (c.cache.depth < 0 or _head(c) > 0),
        message="cache.depth={c.cache.depth} with cache/signal={c.cache.signal.name}: 0 or more layers, and a signal "
        "for which no block runs",
        fix="cache.depth=0 cache/signal=none",
    ),
    Rule(
        id="modulated-family",
        verdict="bad",
        when=lambda c, f: (
            _whole(c)
            and c.cache.signal is not None
            and c.cache.signal.name == "modulated_input"
            and getattr(f.blocks, "modulated", None) is None
        ),
        message="cache={c.cache.name}: this model has no timestep-modulated input to watch",
        fix="cache=fbcache or cache=easycache",
    ),
    Rule(
        id="polynomial-signal",
        verdict="bad",
        when=lambda c, f: (
            _whole(c)
            and isinstance(c.cache.criterion, AccumulatedPolynomial)
            and c.cache.criterion.coefficients is None
            and _name(c.cache.signal) != "modulated_input"
        ),
        message=lambda c, f: (
            "cache/criterion=accumulated_polynomial: polynomials are known of the modulated input alone, and "
            f"cache/signal={_name(c.cache.signal)}"
        ),
        fix="cache/signal=modulated_input, or cache.criterion.coefficients=[...]",
    ),
    Rule(
        id="variant-family",
        verdict="bad",
        when=lambda c, f: (
            (variant := getattr(c.cache.signal, "variant", None)) is not None and variant not in _variants(c, f)
        ),
        message=lambda c, f: (
            f"cache.variant={getattr(c.cache.signal, 'variant', None)}: this model knows "
            f"{', '.join(_variants(c, f)) or 'none'}"
        ),
        fix="cache.variant=null",
    ),
    Rule(
        id="interval-start",
        verdict="bad",
        when=lambda c, f: (
            isinstance(c.cache.criterion, Interval)
            and c.cache.criterion.spacing is not Spacing.uniform
            and c.cache.criterion.start != c.cache.start
        ),
        message="cache.criterion.start={c.cache.criterion.start}: only spacing=uniform counts from there, so it could "
        "not take effect",
        fix="leave it out; cache.start={c.cache.criterion.start} moves the window",
    ),
    Rule(
        id="signal-criterion",
        verdict="bad",
        when=lambda c, f: _whole(c) and _unseen(c),
        message=lambda c, f: (
            f"cache/criterion={_name(c.cache.criterion)} watches "
            f"{'the denoiser' if _watches(c) == 'model' else 'a signal'}, and cache/signal={_name(c.cache.signal)} "
            "gives none"
        ),
        fix=lambda c, f: f"cache/signal={'model_change' if _watches(c) == 'model' else 'first_block_residual'}",
    ),
    Rule(
        id="gamma-signal",
        verdict="bad",
        when=lambda c, f: _whole(c) and _name(c.cache.predictor) == "gamma" and _name(c.cache.signal) == "none",
        message="cache/predictor=gamma scales by what the signal shows, and cache/signal=none shows nothing",
        fix="cache/signal=first_block_output",
    ),
    Rule(
        id="schedule-fits",
        verdict="bad",
        when=lambda c, f: _whole(c) and bool(_unfit(c, f)),
        message=lambda c, f: _unfit(c, f),
        fix="or cache=fbcache, which takes any",
    ),
    Rule(
        id="cache-one",
        verdict="good",
        when=lambda c, f: composed(c) and f.blocks is not None,
        message="one cache strategy, {c.cache.name}, on the denoiser; two at once are not possible here",
        source="tests/caching/test_engine.py",
    ),
    Rule(
        id="threshold",
        verdict="bad",
        when=lambda c, f: (_threshold(c) or 0) < 0,
        message=lambda c, f: f"{_threshold_key(c)}: the threshold is {_threshold(c)}; 0 or more is needed",
        fix=lambda c, f: f"{_threshold_key(c)}=0.08",
    ),
    Rule(
        id="threshold-twice",
        verdict="bad",
        when=lambda c, f: (
            _threshold(c) is not None and (own := _own_threshold(c)) is not None and own[1] != _threshold(c)
        ),
        message=lambda c, f: (
            f"cache.criterion.threshold={_threshold(c)} and {_threshold_key(c)}={(_own_threshold(c) or ('', 0))[1]}: "
            "only the first would take effect"
        ),
        fix=lambda c, f: f"set {_threshold_key(c)} alone, the criterion follows it",
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
            and _name(c.cache.criterion) != "never"
            and all(len(steps) == n for steps, n in zip(found, _runs(c, f), strict=True))
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
        fix=lambda c, f: f"{_threshold_key(c)}=0.08, or cache=none",
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
            f"cache.force_last_step={str(c.cache.force_last_step).lower()}: none of {_steps(c, f)} steps may be "
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
        fix=lambda c, f: "cache=none" if f.distilled(c.model) else "12 steps or more, or cache=none",
        source="https://github.com/X-GenGroup/Flow-Factory/issues/196",
    ),
)


def _variants(c: Config, f: Family) -> list[str]:
    """Of TeaCache: the family's own signals, and published rows of the usual one."""
    rows = [row.variant for row in published.rows() if c.model.repo in row.repos and row.variant]
    return sorted({*getattr(f.blocks, "variants", {}), *rows})


def _name(part: Any) -> str:
    return str(getattr(part, "name", None))


def _unseen(c: Config) -> bool:
    """Whether the criterion watches what the signal does not show."""
    watches, signal = _watches(c), _name(c.cache.signal)
    return (watches == "model" and signal != "model_change") or (
        watches in ("computed", "previous") and signal == "none"
    )


def _limit(hits: int) -> bool:
    """Whether it is well formed."""
    return hits == -1 or hits > 0


def _nothing_allowed(c: Config, f: Family) -> bool:
    """Only said when window and limits are well formed; the rules on them speak otherwise."""
    w: CacheConfig = c.cache
    limits = _limit(w.max_consecutive_cache_hits) and _limit(w.max_cache_hits)
    well_formed = 0 <= w.start < w.end <= 1 and limits and w.warmup_steps >= 0
    return well_formed and all(steps >= 1 and len(computed_steps(w, steps)) == steps for steps in _runs(c, f))


def _foreseen(c: Config, f: Family) -> list[list[int]]:
    """The steps that a schedule computes, of each denoise stage; empty for what decides while it runs."""
    if not _whole(c) or c.cache.criterion is None or c.cache.criterion.name not in MAKERS or _unfit(c, f):
        return []
    if getattr(c.cache.criterion, "schedule", ()) is None:
        return []
    return [found for steps in _runs(c, f) if (found := computed_by(c.cache.criterion, steps, c.cache)) is not None]


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
