"""What a run does otherwise than the runs that a published number comes from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from enum import Enum
from typing import Any

from ..caching.criteria import published
from ..caching.criteria.conditions import OWN, Conditions
from ..config.lossy import list_lossy
from ..config.schema import Config, SamplerConfig, to_data
from ..models.family import Family
from ..samplers import model_default_sampler, resolve_sampler
from .cache import get_name

THE_MODELS_OWN = "the model's own"


def compare_runs(row: published.Row, c: Config, f: Family) -> Iterator[tuple[str, str, str]]:
    """(key, published value, value of this run) of everything that the source says.

    Nobody's numbers are of quantized weights, another attention or several ranks: what a source leaves off, it says.
    """
    if row.made_for.weights is not None:
        yield "model.repo", row.made_for.weights, str(c.model.repo)
    yield from _compare_numbers(row.made_for, c)
    yield from _compare_samplers(row.made_for, c, f)
    if row.made_for.signal is not None:
        yield "cache/signal", row.made_for.signal, get_name(c.cache.signal)
    if (predictor := _find_predictor(row)) is not None:
        yield "cache/predictor", predictor, get_name(c.cache.predictor)
    yield from ((key, off, here) for key, off, here in list_lossy(to_data(c)) if key != "cache")
    if get_name(c.adapters) != "none":
        yield "adapters", "none", get_name(c.adapters)


def _compare_numbers(made_for: Conditions, c: Config) -> Iterator[tuple[str, str, str]]:
    numbers = {
        "steps": (made_for.steps, c.steps),
        "width": (made_for.width, c.width),
        "height": (made_for.height, c.height),
        "num_frames": (made_for.num_frames, c.num_frames),
        "guidance_scale": (made_for.guidance_scale, c.guidance_scale),
    }
    for key, (there, here) in numbers.items():
        if there is not None:
            yield key, f"{there:g}", "none" if here is None else f"{here:g}"
    if made_for.guidance_scale is not None:
        yield "model.true_cfg_scale", "null", format_value(getattr(c.model, "true_cfg_scale", None))
    if made_for.cfg_trunc_ratio is not None:
        yield "model.cfg_trunc_ratio", f"{made_for.cfg_trunc_ratio:g}", f"{getattr(c.model, 'cfg_trunc_ratio', 1.0):g}"
    if made_for.dtype is not None:
        yield "model.dtype", made_for.dtype, c.model.dtype.value


def _compare_samplers(made_for: Conditions, c: Config, f: Family) -> Iterator[tuple[str, str, str]]:
    sampler, own = resolve_sampler(f, c.model, c.sampler), model_default_sampler(f, c.model)
    if made_for.sampler is not None:
        there = own.name if made_for.sampler == OWN else made_for.sampler
        yield "sampler", there, sampler.name
        if there == sampler.name:
            yield from _compare_options(sampler)
    if made_for.shift is not None:
        known = f.own_shift(c.model)
        given = next((shift for options in (sampler, c.model) if (shift := getattr(options, "shift", None))), known)
        yield "sampler.shift", _name_own(known if made_for.shift == OWN else made_for.shift), _name_own(given)


def _compare_options(sampler: SamplerConfig) -> Iterator[tuple[str, str, str]]:
    """Spacing, order and the like, which nobody's numbers have otherwise than their sampler comes."""
    for option in fields(sampler):
        if option.name not in ("name", "shift"):
            yield f"sampler.{option.name}", _name_own(option.default), _name_own(getattr(sampler, option.name))


def _find_predictor(row: published.Row) -> str | None:
    """What stands in for skipped blocks; the rules of TeaCache and MagCache reuse the last residual."""
    reuses = isinstance(row, published.TeaCachePolynomial | published.MagCacheRatios)
    return "reuse" if reuses else row.made_for.predictor


def _name_own(value: Any) -> str:
    return THE_MODELS_OWN if value is None else format_value(value)


def format_value(value: Any) -> str:
    """A value as it is typed in an override."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value).replace(" ", "")
