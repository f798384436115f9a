"""Fills in the numbers that a cache strategy needs and its YAML leaves open (null).

In this order: what the YAML gives; a calibration file that it names; numbers published for the weights; a calibration
of this very run, the user's own before the shipped ones. Nothing is borrowed from another model, sampler, step count
or size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from ...config.schema import CacheConfig, Config
from ...errors import Unfit
from ...models.family import Family
from ..criteria.thresholds import Clamp
from ..window import count_head_blocks
from .best_schedule import find_best_schedule
from .data import Calibration, build_key, describe_unfinished, drop_quantization, format_key
from .find import find_calibration
from .find_published import find_published, get_variant

OPEN_KEYS = {
    ("criterion", "accumulated_polynomial"): "coefficients",
    ("criterion", "magnitude_ratio"): "ratios",
    ("criterion", "planned"): "schedule",
    ("predictor", "fitted"): "gram",
    ("predictor", "step_weights"): "weights",
}
"""Part of a strategy, by group and name -> its key that is filled in if it is null."""

LEAST_FITTED = 3
"""Computed steps of `cache=fitted`; with two there is nothing to combine."""
Values = dict[str, Any]
"""Values for keys of one part of a strategy."""


@dataclass(frozen=True, kw_only=True)
class ResolvedKey:
    """A key that was filled in, for the plan's list of automatic changes."""

    key: str
    value: str
    why: str


def resolve_cache_numbers(config: Config, family: Family) -> tuple[Config, list[ResolvedKey]]:
    """The config with the strategy's open numbers filled in, and what was filled in.

    Raises:
        Unfit: there are no numbers for this run; a calibration does not fit it, or would not be used; or the config
            carries numbers that were filled in for another run.
    """
    cache = config.cache
    if cache.calibrated_for is not None:
        _refuse_numbers_of_another_run(config)
    open_keys = list_open_keys(cache)
    if not open_keys:
        if cache.calibration is not None:
            raise Unfit(
                f"cache.calibration={cache.calibration}: cache={cache.title} leaves nothing open that a calibration "
                "could fill in, so it would have no effect; leave it out"
            )
        return config, []
    values, belongs_to = _find_values(config, family, open_keys)
    parts = {group: _fill_part(getattr(cache, group), values[group][0]) for group, _ in open_keys}
    resolved = [
        ResolvedKey(key=f"cache.{group}.{name}", value=_abbreviate(value), why=values[group][1])
        for group, _ in open_keys
        for name, value in values[group][0].items()
        if isinstance(value, list) and getattr(getattr(cache, group), name) is None and getattr(parts[group], name)
    ]
    return replace(config, cache=replace(cache, **parts, calibration=None, calibrated_for=belongs_to)), resolved


def list_open_keys(cache: CacheConfig) -> list[tuple[str, str]]:
    """(group, key) of each number that the strategy leaves open."""
    open_keys = []
    for (group, name), key in OPEN_KEYS.items():
        part = getattr(cache, group)
        if part is not None and part.name == name and getattr(part, key) is None:
            open_keys.append((group, key))
    return open_keys


def _find_values(
    config: Config, family: Family, open_keys: Sequence[tuple[str, str]]
) -> tuple[dict[str, tuple[Values, str]], str]:
    """By group, the values and where they come from; and which runs they all belong to, as text."""
    cache: Any = config.cache
    values: dict[str, tuple[Values, str]] = {}
    for group, key in open_keys:
        if not cache.calibration and (known := find_published(config, family, key)):
            values[group] = known
    missing = [(group, key) for group, key in open_keys if group not in values]
    if not missing:
        return values, _format_published_for(config)
    where, calibration = _find_with(config, missing)
    fitted = calibration.caches.get(cache.criterion.computed) if ("predictor", "weights") in missing else None
    source = f"calibration {where}{describe_unfinished(fitted.made) if fitted else ''}"
    for group, key in missing:
        values[group] = _read_values(cache, group, key, where, calibration), source
    return values, format_key(build_key(config))


def _find_with(config: Config, missing: Sequence[tuple[str, str]]) -> tuple[str, Calibration]:
    """The calibration that has the missing numbers, and where it comes from."""
    purpose = f"cache.{missing[0][0]}.{missing[0][1]}=null: cache={config.cache.title} needs a calibration"
    if ("predictor", "weights") not in missing:
        return find_calibration(config, purpose)
    criterion: Any = config.cache.criterion
    if ("criterion", "schedule") not in missing:
        raise Unfit(
            "cache.predictor.weights=null: weights are fitted for a schedule of their own; leave "
            "cache.criterion open too (cache=fitted), or use cache/predictor=fitted, which takes any steps"
        )
    count = criterion.computed
    if count < LEAST_FITTED:
        raise Unfit(
            f"cache.computed={count}: weights are fitted for {LEAST_FITTED} or more computed steps; use as many, or "
            "cache=planned"
        )
    return find_calibration(
        config,
        f"{purpose} with weights fitted for {count} computed steps",
        has=lambda calibration: count in calibration.caches,
        way_out=f"python -m wavespeed_runner fit computed={count} with this run's overrides, without those of cache, "
        "makes them",
    )


def _fill_part(part: Any, values: Values) -> Any:
    """The part with its open keys filled in, but for a range that nothing is clamped to; values of the user stay."""
    clamped = getattr(part, "clamp", Clamp.range) is Clamp.range
    wanted = {key: value for key, value in values.items() if clamped or key != "range"}
    return replace(part, **{key: value for key, value in wanted.items() if getattr(part, key) is None})


def _refuse_numbers_of_another_run(config: Config) -> None:
    cache = config.cache
    if cache.calibrated_for == _format_published_for(config):
        return
    key = build_key(config)
    wanted = format_key(key)
    # Numbers of a run without quantization fit one with it, as calibrations do.
    if cache.calibrated_for in (wanted, format_key(drop_quantization(key))):
        return
    keys = [f"cache.{group}.{key}=null" for (group, name), key in OPEN_KEYS.items() if _get_name(cache, group) == name]
    raise Unfit(
        f"cache.calibrated_for={cache.calibrated_for}: the strategy's numbers were filled in for that run, and this "
        f"one is {wanted}; to have them looked up again: {' '.join(keys)} cache.calibrated_for=null"
    )


def _get_name(cache: CacheConfig, group: str) -> str | None:
    part = getattr(cache, group)
    return part.name if part is not None else None


def _format_published_for(config: Config) -> str:
    """What published numbers belong to: the weights, and the variant that was asked for."""
    variant = get_variant(config)
    return f"repo={config.model.repo}" + (f" variant={variant}" if variant else "")


def _read_values(cache: CacheConfig, group: str, key: str, where: str, calibration: Calibration) -> Values:
    """The values for one open key, from a calibration."""
    if key == "coefficients":
        if calibration.polynomial is None:
            raise Unfit(
                f"cache.{group}.{key}=null: {where} has none: the model has no modulated input to watch, or there were "
                "too few steps and prompts to fit a polynomial of degree 4"
            )
        return {"coefficients": calibration.polynomial.coefficients, "range": calibration.polynomial.range}
    if key == "ratios":
        if not calibration.ratios:
            raise Unfit(f"cache.{group}.{key}=null: {where} has none")
        return {"ratios": calibration.ratios}
    if _get_name(cache, "predictor") == "step_weights":
        return _read_fitted(cache, key, where, calibration)
    gram = _read_gram(cache, where, calibration)
    return {"gram": gram} if key == "gram" else {"schedule": _choose_schedule(cache, gram, calibration)}


def _read_fitted(cache: CacheConfig, key: str, where: str, calibration: Calibration) -> Values:
    """Schedule and weights that were fitted together."""
    criterion: Any = cache.criterion
    if count_head_blocks(cache) or cache.tail_blocks or cache.depth is not None:
        raise Unfit(
            f"cache.signal.blocks={count_head_blocks(cache)} cache.tail_blocks={cache.tail_blocks} "
            f"cache.depth={cache.depth}: {where} has weights for the residual of all blocks; use cache/signal=none "
            "cache.tail_blocks=0 cache.depth=null"
        )
    if criterion.first != 1:
        raise Unfit(
            f"cache.criterion.first={criterion.first}: the steps were fitted together with the weights; leave it out"
        )
    found = calibration.caches.get(criterion.computed)
    if not found:
        known = ", ".join(map(str, sorted(calibration.caches))) or "none"
        raise Unfit(
            f"cache.criterion.computed={criterion.computed}: {where} has weights for {known} computed steps; python -m "
            f"wavespeed_runner fit computed={criterion.computed} makes these"
        )
    return {"schedule": found.steps} if key == "schedule" else {"weights": found.weights}


def _read_gram(cache: CacheConfig, where: str, calibration: Calibration) -> list[list[float]]:
    """The Gram matrix of the residual that this strategy predicts."""
    blocks = count_head_blocks(cache)
    if cache.tail_blocks or cache.depth is not None or blocks not in calibration.gram:
        available = " or ".join(map(str, sorted(calibration.gram)))
        raise Unfit(
            f"cache.signal.blocks={blocks} cache.tail_blocks={cache.tail_blocks} cache.depth={cache.depth}: {where} "
            f"has the residual after {available} first blocks, up to the last block; use tail_blocks=0 and depth=null, "
            "or cache/predictor=taylor"
        )
    return calibration.gram[blocks]


def _choose_schedule(cache: CacheConfig, gram: list[list[float]], calibration: Calibration) -> list[int]:
    """The steps that a search found best; without a search, those with the least error of the fitted sum."""
    criterion: Any = cache.criterion
    if criterion.computed in calibration.schedules:
        return calibration.schedules[criterion.computed]
    names = ("history", "ridge", "order") if _get_name(cache, "predictor") == "fitted" else ()
    options = {name: getattr(cache.predictor, name) for name in names}
    steps = _find_best_schedule_cached(
        tuple(map(tuple, gram)),
        criterion.computed,
        first=criterion.first,
        importance=calibration.schedule_weights,
        **options,
    )
    return [step + 1 for step in steps]


# The search takes up to two seconds, and all jobs of a sweep ask for the same.
_find_best_schedule_cached = lru_cache(maxsize=256)(find_best_schedule)


def _abbreviate(values: Sequence[Any]) -> str:
    """A list as the plan shows it."""
    if len(values) <= 12 and not any(isinstance(value, list) for value in values):
        return "[" + ",".join(f"{value:g}" for value in values) + "]"
    return f"[{len(values)} {'rows' if isinstance(values[0], list) else 'numbers'}]"
