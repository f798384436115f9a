"""The typed keys of every sampler, from the table, and what the rules ask about them. No torch here."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from typing import Any

from ..config.schema import ModelConfig, SamplerConfig
from ..errors import ConfigError
from ..models.family import Family
from ..registry import names, register
from .build import build_scheduler
from .table import FLOW, SAMPLERS, SHIFT, Option, Sampler, Sigmas


@dataclass(kw_only=True)
class DefaultSampler(SamplerConfig):
    """The model's own scheduler, untouched."""

    name: str = "default"


@register("sampler", "default", DefaultSampler)
def keep_model_scheduler(pipe: Any, options: DefaultSampler) -> Any:
    """The scheduler that the model came with."""
    return pipe.scheduler


@dataclass(kw_only=True)
class TableSampler(SamplerConfig):
    """A sampler of the table. Its keys are made from there."""

    def __post_init__(self) -> None:
        if self.name in SAMPLERS:
            for key, option in sampler_keys(SAMPLERS[self.name]).items():
                _check_value(key, option, getattr(self, key))


SIGMAS = Option(type=Sigmas | None, default=None, allowed=(None, *Sigmas))
"""Spacing of the noise levels; null: as the model's own scheduler has it."""


def sampler_keys(sampler: Sampler) -> dict[str, Option]:
    """Its keys."""
    found = {"sigmas": SIGMAS} if sampler.spacing_kinds else {}
    return found | sampler.options | ({"shift": SHIFT} if FLOW in sampler.classes else {})


def _check_value(key: str, option: Option, value: Any) -> None:
    if value == option.default:
        return
    if option.allowed and value not in option.allowed:
        raise ConfigError(f"sampler.{key}={value}: allowed: {', '.join(map(str, option.allowed))}")
    if not option.allowed and not (value > option.minimum if option.exclusive else value >= option.minimum):
        raise ConfigError(
            f"sampler.{key}={value}: {'must be above' if option.exclusive else 'must not be below'} {option.minimum:g}"
        )


def build_options_class(name: str, sampler: Sampler) -> type:
    """The dataclass of a sampler's keys."""
    made = make_dataclass(
        f"{name.title().replace('_', '')}Sampler",
        [
            ("name", str, field(default=name)),
            *((key, option.type, field(default=option.default)) for key, option in sampler_keys(sampler).items()),
        ],
        bases=(TableSampler,),
        kw_only=True,
    )
    made.__doc__, made.__module__ = f"{sampler.about}.", __name__
    return made


OPTIONS = {name: build_options_class(name, sampler) for name, sampler in SAMPLERS.items()}
for _name, _options in OPTIONS.items():
    register("sampler", _name, _options)(build_scheduler)


def model_default_sampler(family: Family, model: ModelConfig) -> SamplerConfig:
    """What the model was published with, as options of the table's sampler; where that is not known, of `default`."""
    found: SamplerConfig = OPTIONS.get(family.own_sampler(model), DefaultSampler)()
    return found


def deterministic_samplers(family: Family) -> list[str]:
    """Names of the table's samplers that fit a family and, by themselves, draw no noise."""
    return [name for name, options in OPTIONS.items() if not why_unfit(family, name) and not is_stochastic(options())]


def resolve_sampler(family: Family, model: ModelConfig, options: SamplerConfig) -> SamplerConfig:
    """The options of the sampler that steps: `default` is the model's own."""
    return model_default_sampler(family, model) if options.name == "default" else options


def is_stochastic(options: SamplerConfig) -> bool:
    """Whether steps draw fresh noise. Reuse is then worth less: what a cache watches changes at random every step."""
    noise = SAMPLERS[options.name].noise if options.name in SAMPLERS else "stochastic"
    return bool(getattr(options, noise, False)) if isinstance(noise, str) else noise


def count_denoiser_calls(options: SamplerConfig, steps: int) -> int:
    """How often the denoiser is called in so many `steps`. Each call is a step to caches and to the record."""
    sampler = SAMPLERS.get(options.name)
    return sampler.calls_per_step * steps + min(sampler.extra_calls, steps - 1) if sampler else steps


def find_max_steps(family: Family, options: SamplerConfig) -> int | None:
    """How many steps a sampler has at most on a family; None: no limit."""
    return SAMPLERS[options.name].max_steps.get(family.schedule) if options.name in SAMPLERS else None


def required_distillation(options: SamplerConfig) -> str:
    """What the weights must have been distilled for; empty: nothing."""
    return SAMPLERS[options.name].distilled if options.name in SAMPLERS else ""


def fitting_samplers(family: Family) -> list[str]:
    """Names of the samplers that fit a family."""
    return [name for name in names("sampler") if not why_unfit(family, name)]


def why_unusable(family: Family, options: SamplerConfig, task: str = "") -> str:
    """Why a sampler with these options does not fit a family, in this task; empty: it does."""
    return (
        why_unfit(family, options.name)
        or why_unfit_for_task(family, options.name, task)
        or why_option_unused(family, options)
    )


def why_unfit_for_task(family: Family, name: str, task: str) -> str:
    """Why a sampler that fits the family does not in this task; empty: it does."""
    if task not in ("image_to_image", "inpaint") or name not in SAMPLERS:
        return ""
    if family.schedule not in SAMPLERS[name].not_from_image:
        return ""
    return f"{name} cannot start from an image on {family.schedule} models: diffusers would skip too many of its steps"


def why_unfit(family: Family, name: str) -> str:
    """Why a sampler does not fit a family; empty: it does. A plugin's own is taken to fit."""
    if name in family.unfit_samplers:
        return family.unfit_samplers[name]
    if name not in SAMPLERS or family.schedule in SAMPLERS[name].classes:
        return ""
    return f"{name} makes no {family.schedule} steps, only {' and '.join(SAMPLERS[name].classes)} steps"


def why_option_unused(family: Family, options: SamplerConfig) -> str:
    """The option that could not take effect on a family that the sampler fits, and why; empty: none."""
    if options.name not in SAMPLERS or why_unfit(family, options.name):
        return ""
    sampler, kind = SAMPLERS[options.name], family.schedule
    for key, option in sampler_keys(sampler).items():
        value = getattr(options, key)
        if kind not in (sampler.spacing_kinds if key == "sigmas" else option.kinds) and value != option.default:
            shown = value.value if isinstance(value, Sigmas) else value
            return f"sampler.{key}={shown} could not take effect: {sampler.classes[kind]} has no such option"
    return ""
