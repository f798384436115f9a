"""Rules on cache strategies: which models they attach to, and which of their parts fit together."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from ..caching.criteria import published
from ..caching.criteria.schedules import Interval, Spacing
from ..caching.criteria.thresholds import AccumulatedPolynomial
from ..config.schema import Config
from ..models.family import Blocks, Family
from ..registry import find_implementation
from .cache_calls import explain_unfit_schedule, explain_unfit_weights
from .rule import Rule


def is_cached(c: Config) -> bool:
    """True if a cache strategy is on."""
    return c.cache.name != "none"


def uses_engine(c: Config) -> bool:
    """True if a strategy of signal, criterion and predictor is on, not one of diffusers' own."""
    return is_cached(c) and find_implementation("cache", c.cache) is None


def has_all_parts(c: Config) -> bool:
    """True if a strategy of ours is on and has its signal, criterion and predictor."""
    return uses_engine(c) and None not in (c.cache.signal, c.cache.criterion, c.cache.predictor)


def watches_change(c: Config) -> bool:
    """True if a strategy decides by what it measures, and not by steps that are known before."""
    return has_all_parts(c) and _find_watched(c) != "nothing"


def _find_watched(c: Config) -> str:
    """What the criterion watches, see `caching.interfaces.Criterion`; empty without one."""
    return str(find_implementation("cache/criterion", c.cache.criterion).watches) if c.cache.criterion else ""


def _count_head_blocks(c: Config) -> int:
    return getattr(c.cache.signal, "blocks", 0)


def _list_changed_keys(c: Config) -> str:
    """Keys of the strategy that differ from their defaults, as overrides."""
    plain: Any = type(c.cache)()
    names = [field.name for field in fields(c.cache) if getattr(c.cache, field.name) != getattr(plain, field.name)]
    return " ".join(f"cache.{name}={getattr(c.cache, name)}" for name in names)


CACHES: tuple[Rule, ...] = (
    Rule(
        id="cache-off",
        verdict="bad",
        when=lambda c, f: not is_cached(c) and c.cache != type(c.cache)(),
        message=lambda c, f: (
            f"cache=none with {_list_changed_keys(c)}: nothing is skipped, so it could not take effect"
        ),
        fix="cache=fbcache, or leave cache.KEY=VALUE out",
    ),
    Rule(
        id="cache-attaches",
        verdict="bad",
        when=lambda c, f: uses_engine(c) and f.blocks is None,
        message="cache={c.cache.title}: it is not known what this model repeats at each step, so nothing can be "
        "skipped",
        fix="cache=none",
    ),
    Rule(
        id="cache-parts",
        verdict="bad",
        when=lambda c, f: uses_engine(c) and not has_all_parts(c),
        message="cache={c.cache.title}: a strategy needs a signal, a criterion and a predictor",
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
        when=lambda c, f: is_cached(c) and c.cache.tail_blocks < 0,
        message="cache.tail_blocks={c.cache.tail_blocks}: 0 or more last blocks can always run",
        fix="cache.tail_blocks=0",
    ),
    Rule(
        id="tail-family",
        verdict="bad",
        when=lambda c, f: (
            uses_engine(c)
            and c.cache.tail_blocks > 0
            and not (isinstance(f.blocks, Blocks) and f.blocks.supports_tail_blocks)
        ),
        message="cache.tail_blocks={c.cache.tail_blocks}: this model's last blocks cannot run behind skipped ones",
        fix="cache.tail_blocks=0",
    ),
    Rule(
        id="depth-family",
        verdict="bad",
        when=lambda c, f: uses_engine(c) and c.cache.depth is not None and isinstance(f.blocks, Blocks),
        message="cache={c.cache.title} with cache.depth={c.cache.depth}: only a U-Net has layers that mirror each "
        "other",
        fix="cache=fbcache, cache=taylorseer, or another strategy for transformers (docs/support.md)",
        source="https://arxiv.org/abs/2312.00858",
    ),
    Rule(
        id="depth-value",
        verdict="bad",
        when=lambda c, f: (
            is_cached(c) and c.cache.depth is not None and (c.cache.depth < 0 or _count_head_blocks(c) > 0)
        ),
        message="cache.depth={c.cache.depth} with cache/signal={c.cache.signal.name}: 0 or more layers, and a signal "
        "for which no block runs",
        fix="cache.depth=0 cache/signal=none",
    ),
    Rule(
        id="modulated-family",
        verdict="bad",
        when=lambda c, f: (
            has_all_parts(c)
            and c.cache.signal is not None
            and c.cache.signal.name == "modulated_input"
            and getattr(f.blocks, "modulated_input", None) is None
        ),
        message="cache={c.cache.title}: this model has no timestep-modulated input to watch",
        fix="cache=fbcache or cache=easycache",
    ),
    Rule(
        id="polynomial-signal",
        verdict="bad",
        when=lambda c, f: (
            has_all_parts(c)
            and isinstance(c.cache.criterion, AccumulatedPolynomial)
            and c.cache.criterion.coefficients is None
            and get_name(c.cache.signal) != "modulated_input"
        ),
        message=lambda c, f: (
            "cache/criterion=accumulated_polynomial: polynomials are known for the modulated input only, and "
            f"cache/signal={get_name(c.cache.signal)}"
        ),
        fix="cache/signal=modulated_input, or cache.criterion.coefficients=[...]",
    ),
    Rule(
        id="variant-family",
        verdict="bad",
        when=lambda c, f: (
            (variant := getattr(c.cache.signal, "variant", None)) is not None and variant not in _list_variants(c, f)
        ),
        message=lambda c, f: (
            f"cache.variant={getattr(c.cache.signal, 'variant', None)}: this model knows "
            f"{', '.join(_list_variants(c, f)) or 'none'}"
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
        id="interval-warmup",
        verdict="bad",
        when=lambda c, f: (
            isinstance(c.cache.criterion, Interval)
            and c.cache.criterion.spacing is not Spacing.after_warmup
            and c.cache.criterion.warmup != c.cache.warmup_steps
        ),
        message="cache.criterion.warmup={c.cache.criterion.warmup}: only spacing=after_warmup counts from there, so it "
        "could not take effect",
        fix="leave it out; cache.warmup_steps={c.cache.criterion.warmup} computes so many first steps",
    ),
    Rule(
        id="signal-criterion",
        verdict="bad",
        when=lambda c, f: has_all_parts(c) and _watches_missing_signal(c),
        message=lambda c, f: (
            f"cache/criterion={get_name(c.cache.criterion)} watches "
            f"{'the denoiser' if _find_watched(c) == 'model' else 'a signal'}, and "
            f"cache/signal={get_name(c.cache.signal)} gives none"
        ),
        fix=lambda c, f: f"cache/signal={'model_change' if _find_watched(c) == 'model' else 'first_block_residual'}",
    ),
    Rule(
        id="gamma-signal",
        verdict="bad",
        when=lambda c, f: (
            has_all_parts(c) and get_name(c.cache.predictor) == "gamma" and get_name(c.cache.signal) == "none"
        ),
        message="cache/predictor=gamma scales by what the signal shows, and cache/signal=none shows nothing",
        fix="cache/signal=first_block_output",
    ),
    Rule(
        id="schedule-fits",
        verdict="bad",
        when=lambda c, f: has_all_parts(c) and bool(explain_unfit_schedule(c, f)),
        message=lambda c, f: explain_unfit_schedule(c, f),
        fix="or cache=fbcache, which takes any",
    ),
    Rule(
        id="weights-fit",
        verdict="bad",
        when=lambda c, f: has_all_parts(c) and bool(explain_unfit_weights(c, f)),
        message=lambda c, f: explain_unfit_weights(c, f),
        fix="leave window and limits of the cache out, or cache/predictor=taylor",
    ),
    Rule(
        id="cache-one",
        verdict="good",
        when=lambda c, f: uses_engine(c) and f.blocks is not None,
        message="one cache strategy, {c.cache.title}, on the denoiser; two at once are not possible here",
        source="tests/caching/test_engine.py",
    ),
)


def _list_variants(c: Config, f: Family) -> list[str]:
    """TeaCache's variants for a model: the family's own signals, and the published rows for its weights."""
    rows = [row.variant for row in published.load_polynomials() if c.model.repo in row.repos and row.variant]
    return sorted({*getattr(f.blocks, "variants", {}), *rows})


def get_name(part: Any) -> str:
    """The registered name of a part of the strategy; `None` as text where there is none."""
    return str(getattr(part, "name", None))


def _watches_missing_signal(c: Config) -> bool:
    """True if the criterion watches something that the signal does not show."""
    watches, signal = _find_watched(c), get_name(c.cache.signal)
    return (watches == "model" and signal != "model_change") or (
        watches in ("computed", "previous") and signal == "none"
    )
