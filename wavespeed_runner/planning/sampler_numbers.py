"""Fills in the numbers of `sampler=fitted` from the calibration of the model's own full run."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from ..caching.calibration.data import Calibration, Key, build_key, describe_unfinished, format_key
from ..caching.calibration.find import find_by_key, load_named
from ..config.measure import find_reference_steps, has_own_reference
from ..config.schema import Config
from ..errors import Unfit
from ..registry import find_implementation
from ..samplers import full_sampler
from ..samplers.fitted import FittedSampler
from .automatic import Change

WAY_OUT = (
    "python -m wavespeed_runner fit evaluations={steps} with this run's overrides, without sampler and steps, makes one"
)


def resolve_sampler_numbers(config: Config) -> tuple[Config, list[Change]]:
    """The config with the numbers of a fitted sampler, and what was filled in; other samplers stay as they are.

    Raises:
        Unfit: there are no numbers for this model and number of steps, or the config has those of another run.
        ConfigError: the file that `sampler.calibration` names cannot be read.
    """
    sampler = config.sampler
    if not isinstance(sampler, FittedSampler):
        return config, []
    key = build_full_key(config)
    if sampler.solver:
        _check_numbers(sampler, config.steps, format_key(key))
        return config, []
    steps = config.steps or 0
    way_out = WAY_OUT.format(steps=steps)
    if sampler.calibration is not None:
        where, calibration = load_named(sampler.calibration, key, name="sampler.calibration")
    else:
        purpose = f"sampler=fitted steps={steps}: needs a sampler that was fitted for so many evaluations,"
        where, calibration = _find(config, key, steps, purpose, way_out)
    found = calibration.samplers.get(steps)
    if not found:
        known = ", ".join(map(str, sorted(calibration.samplers))) or "none"
        raise Unfit(
            f"steps={steps}: {where} has fitted samplers for {known} evaluations; steps= one of them; {way_out}"
        )
    numbers: dict[str, Any] = asdict(found.solver)
    filled = replace(sampler, **numbers, calibration=None, calibrated_for=format_key(key))
    why = f"calibration {where}{_describe_quality(found.made)}{describe_unfinished(found.made)}"
    return replace(config, sampler=filled), [Change(key="sampler.output_weights", value=f"[{steps} rows]", why=why)]


def build_full_key(config: Config) -> Key:
    """The key of the run that a fitted sampler stands for: the model's own sampler and number of steps, from noise."""
    steps = find_reference_steps(config) if has_own_reference(config) else config.model.steps
    full = full_sampler(find_implementation("model", config.model), config.model)
    return build_start_key(replace(config, sampler=full, steps=steps))


def build_start_key(config: Config) -> Key:
    """The key of a run's calibration, wherever in the schedule the run begins: a solver is fitted for all of it."""
    return {name: value for name, value in build_key(config).items() if name not in ("starts", "strength")}


def _find(config: Config, key: Key, steps: int, purpose: str, way_out: str) -> tuple[str, Calibration]:
    """A calibration with a sampler for these steps; else one with samplers for others, whose numbers are then named."""
    try:
        return find_by_key(config, key, purpose, has=lambda calibration: steps in calibration.samplers, way_out=way_out)
    except Unfit:
        return find_by_key(config, key, purpose, has=lambda calibration: bool(calibration.samplers), way_out=way_out)


def _check_numbers(sampler: FittedSampler, steps: int | None, wanted: str) -> None:
    """Refuses numbers that came with the config (of a record, an export) where they belong to another run."""
    count = len(sampler.timesteps or ())
    again = "to have them looked up again: " + " ".join(
        f"sampler.{name}=null" for name in ("timesteps", "noise_weights", "output_weights", "calibrated_for")
    )
    if count != steps:
        raise Unfit(f"steps={steps}: the sampler's numbers are for {count} evaluations; steps={count}, or {again}")
    if sampler.calibrated_for not in (None, wanted):
        raise Unfit(
            f"sampler.calibrated_for={sampler.calibrated_for}: the sampler's numbers were fitted for that run, and "
            f"this one is {wanted}; {again}"
        )


def _describe_quality(made: dict[str, Any]) -> str:
    """What the fit reached on images that it had not seen, if the file says so in the form that `fit` writes."""
    found: Any = made
    for name in ("quality", "fitted", "ssim", "mean"):
        found = found.get(name) if isinstance(found, dict) else None
    # No other number is an SSIM: the file may hold anything.
    is_ssim = type(found) in (int, float) and -1 <= found <= 1
    return f"; SSIM {found:.4f} to the full run when it was fitted" if is_ssim else ""
