"""Rules on cache strategies: what they attach to, and whether their parts fit together."""

from __future__ import annotations

from dataclasses import fields
from math import ceil
from typing import Any

from ..caching.criteria import published
from ..caching.criteria.schedule import explain_misfit
from ..caching.criteria.schedules import Interval, Spacing
from ..caching.criteria.thresholds import AccumulatedPolynomial
from ..config.schema import Config
from ..models.family import Blocks, Family
from ..registry import find_implementation
from ..samplers import count_denoiser_calls, resolve_sampler
from .graph import denoising, takes_strength
from .rule import Rule


def cached(c: Config) -> bool:
    """Whether a strategy is on."""
    return c.cache.name != "none"


def composed(c: Config) -> bool:
    """Whether it is one of signal, criterion and predictor, not one of diffusers' own."""
    return cached(c) and find_implementation("cache", c.cache) is None


def whole(c: Config) -> bool:
    return composed(c) and None not in (c.cache.signal, c.cache.criterion, c.cache.predictor)


def _watches(c: Config) -> str:
    """What the criterion looks at: see `caching.interfaces.Criterion.watches`."""
    return str(find_implementation("cache/criterion", c.cache.criterion).watches) if c.cache.criterion else ""


def _head(c: Config) -> int:
    return getattr(c.cache.signal, "blocks", 0)


def calls(c: Config, f: Family) -> int:
    """Calls of the denoiser that a guidance branch makes."""
    return count_denoiser_calls(resolve_sampler(f, c.model, c.sampler), c.steps or 0)


def runs(c: Config, f: Family) -> list[int]:
    """The same for each denoise stage: one that starts from an image runs part of the steps. Flow models round up, the
    others down."""
    found = []
    for stage in denoising(c):
        own = stage.options if isinstance(stage.options, dict) else {}
        part = own.get("strength", c.strength) if takes_strength(stage, f) else 1.0
        steps = own.get("steps", c.steps) or 0
        if isinstance(part, int | float) and isinstance(steps, int):
            kept = min(steps * part, steps)
            found.append(
                count_denoiser_calls(
                    resolve_sampler(f, c.model, c.sampler), ceil(kept) if f.schedule == "flow" else int(kept)
                )
            )
    return found or [calls(c, f)]


def unfit_for(c: Config, f: Family) -> str:
    """Why a schedule cannot be made for the steps of some stage; empty: it can."""
    return next((why for steps in runs(c, f) if (why := explain_misfit(c.cache.criterion, steps))), "")


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
        when=lambda c, f: composed(c) and not whole(c),
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
            composed(c)
            and c.cache.tail_blocks > 0
            and not (isinstance(f.blocks, Blocks) and f.blocks.supports_tail_blocks)
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
            whole(c)
            and c.cache.signal is not None
            and c.cache.signal.name == "modulated_input"
            and getattr(f.blocks, "modulated_input", None) is None
        ),
        message="cache={c.cache.name}: this model has no timestep-modulated input to watch",
        fix="cache=fbcache or cache=easycache",
    ),
    Rule(
        id="polynomial-signal",
        verdict="bad",
        when=lambda c, f: (
            whole(c)
            and isinstance(c.cache.criterion, AccumulatedPolynomial)
            and c.cache.criterion.coefficients is None
            and name_of(c.cache.signal) != "modulated_input"
        ),
        message=lambda c, f: (
            "cache/criterion=accumulated_polynomial: polynomials are known of the modulated input alone, and "
            f"cache/signal={name_of(c.cache.signal)}"
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
        when=lambda c, f: whole(c) and _unseen(c),
        message=lambda c, f: (
            f"cache/criterion={name_of(c.cache.criterion)} watches "
            f"{'the denoiser' if _watches(c) == 'model' else 'a signal'}, and cache/signal={name_of(c.cache.signal)} "
            "gives none"
        ),
        fix=lambda c, f: f"cache/signal={'model_change' if _watches(c) == 'model' else 'first_block_residual'}",
    ),
    Rule(
        id="gamma-signal",
        verdict="bad",
        when=lambda c, f: whole(c) and name_of(c.cache.predictor) == "gamma" and name_of(c.cache.signal) == "none",
        message="cache/predictor=gamma scales by what the signal shows, and cache/signal=none shows nothing",
        fix="cache/signal=first_block_output",
    ),
    Rule(
        id="schedule-fits",
        verdict="bad",
        when=lambda c, f: whole(c) and bool(unfit_for(c, f)),
        message=lambda c, f: unfit_for(c, f),
        fix="or cache=fbcache, which takes any",
    ),
    Rule(
        id="cache-one",
        verdict="good",
        when=lambda c, f: composed(c) and f.blocks is not None,
        message="one cache strategy, {c.cache.name}, on the denoiser; two at once are not possible here",
        source="tests/caching/test_engine.py",
    ),
)


def _variants(c: Config, f: Family) -> list[str]:
    """Of TeaCache: the family's own signals, and published rows of the usual one."""
    rows = [row.variant for row in published.load_polynomials() if c.model.repo in row.repos and row.variant]
    return sorted({*getattr(f.blocks, "variants", {}), *rows})


def name_of(part: Any) -> str:
    return str(getattr(part, "name", None))


def _unseen(c: Config) -> bool:
    """Whether the criterion watches what the signal does not show."""
    watches, signal = _watches(c), name_of(c.cache.signal)
    return (watches == "model" and signal != "model_change") or (
        watches in ("computed", "previous") and signal == "none"
    )
