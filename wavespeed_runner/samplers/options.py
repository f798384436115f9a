"""The typed options of every sampler, built from the table, and the facts that the rules ask for. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass
from enum import Enum
from typing import Any

from ..config.schema import ModelConfig, SamplerConfig
from ..errors import ConfigError
from ..models.family import Family, starts_from_image
from ..registry import list_names, register
from . import fitted
from .build import build_scheduler
from .table import COGVIDEOX, DIFFUSION, FLOW, SAMPLERS, SHIFT, Option, Sampler, Sigmas, TimestepSpacing


@dataclass(kw_only=True)
class DefaultSampler(SamplerConfig):
    """The model's own scheduler, unchanged."""

    name: str = "default"


@register("sampler", "default", DefaultSampler)
def keep_model_scheduler(pipe: Any, options: DefaultSampler) -> Any:
    """Returns the scheduler that the model came with."""
    return pipe.scheduler


@dataclass(kw_only=True)
class TableSampler(SamplerConfig):
    """Base of the options of a sampler in the table; the fields of each subclass come from its entry there."""

    def __post_init__(self) -> None:
        """Checks the range of every value.

        Raises:
            ConfigError: names the key, the value and what is allowed.
        """
        if self.name in SAMPLERS:
            for key, option in sampler_keys(SAMPLERS[self.name]).items():
                _check_value(key, option, getattr(self, key))


SIGMAS = Option(type=Sigmas | None, default=None, allowed=(None, *Sigmas))
"""Spacing of the noise levels; null: that of the model's own scheduler."""


TIMESTEP_SPACING = Option(
    type=TimestepSpacing | None, default=None, kinds=(DIFFUSION, COGVIDEOX), allowed=(None, *TimestepSpacing)
)
"""Which timesteps are used; null: as the model's own scheduler does. Flow models have a `shift` instead."""


def sampler_keys(sampler: Sampler) -> dict[str, Option]:
    """All keys of a sampler: `sigmas`, `timestep_spacing` and `shift` where they apply, and its own."""
    sigmas = {"sigmas": SIGMAS} if sampler.spacing_kinds else {}
    spaced = any(kind in sampler.classes for kind in TIMESTEP_SPACING.kinds) and not sampler.own_timesteps
    timesteps = {"timestep_spacing": TIMESTEP_SPACING} if spaced else {}
    return sigmas | timesteps | sampler.options | ({"shift": SHIFT} if FLOW in sampler.classes else {})


def _check_value(key: str, option: Option, value: Any) -> None:
    if value == option.default:
        return
    if option.allowed and value not in option.allowed:
        raise ConfigError(f"sampler.{key}={value}: allowed: {', '.join(map(str, option.allowed))}")
    if not option.allowed and not (value > option.minimum if option.exclusive else value >= option.minimum):
        bound = "must be above" if option.exclusive else "must be at least"
        raise ConfigError(f"sampler.{key}={value}: {bound} {option.minimum:g}")
    if option.maximum is not None and value > option.maximum:
        raise ConfigError(f"sampler.{key}={value}: must be at most {option.maximum:g}")


def build_options_class(name: str, sampler: Sampler) -> type:
    """Builds the dataclass of a sampler's options."""
    options = make_dataclass(
        f"{name.title().replace('_', '')}Sampler",
        [
            ("name", str, field(default=name)),
            *((key, option.type, field(default=option.default)) for key, option in sampler_keys(sampler).items()),
        ],
        bases=(TableSampler,),
        kw_only=True,
    )
    options.__doc__, options.__module__ = f"{sampler.about}.", __name__
    return options


OPTIONS = {name: build_options_class(name, sampler) for name, sampler in SAMPLERS.items()}
"""Name -> options class of every sampler in the table."""
for _name, _options in OPTIONS.items():
    register("sampler", _name, _options)(build_scheduler)


def model_default_sampler(family: Family, model: ModelConfig) -> SamplerConfig:
    """The sampler that the model was published with, as options; `default`'s where it is not known."""
    options: SamplerConfig = OPTIONS.get(family.own_sampler(model), DefaultSampler)()
    return options


def is_own_sampler(family: Family, model: ModelConfig, options: SamplerConfig) -> bool:
    """Whether this is the sampler that the model was published with, named or not, without options of its own."""
    return resolve_sampler(family, model, options) == model_default_sampler(family, model)


def deterministic_samplers(family: Family) -> list[str]:
    """Names of the samplers that fit a family and, with default options, draw no fresh noise."""
    return [name for name, options in OPTIONS.items() if not why_unfit(family, name) and not is_stochastic(options())]


def resolve_sampler(family: Family, model: ModelConfig, options: SamplerConfig) -> SamplerConfig:
    """Replaces `default` by the model's own sampler; other options stay as they are."""
    return model_default_sampler(family, model) if options.name == "default" else options


def full_sampler(family: Family, model: ModelConfig) -> SamplerConfig:
    """The sampler that a fitted one stands for: the model's own, or one that draws no fresh noise where it does."""
    if not is_stochastic(model_default_sampler(family, model)):
        return DefaultSampler()
    options: SamplerConfig = OPTIONS[next(name for name in deterministic_samplers(family) if name in OPTIONS)]()
    return options


def is_stochastic(options: SamplerConfig) -> bool:
    """Whether each step draws fresh noise.

    Caches then hit less often: what their signals watch changes at random between steps.
    """
    noise = SAMPLERS[options.name].noise if options.name in SAMPLERS else "stochastic"
    return bool(getattr(options, noise, False)) if isinstance(noise, str) else noise


def count_denoiser_calls(options: SamplerConfig, steps: int) -> int:
    """Counts the denoiser calls in `steps` steps. Caches and the record count each call as a step."""
    sampler = SAMPLERS.get(options.name)
    return sampler.calls_per_step * steps + min(sampler.extra_calls, steps - 1) if sampler else steps


def find_max_steps(family: Family, options: SamplerConfig) -> int | None:
    """The most steps that a sampler can take on a family; None: no limit."""
    return SAMPLERS[options.name].max_steps.get(family.schedule) if options.name in SAMPLERS else None


def required_distillation(options: SamplerConfig) -> str:
    """The kind of distillation that the weights need for this sampler; empty: none."""
    return SAMPLERS[options.name].distilled if options.name in SAMPLERS else ""


def fitting_samplers(family: Family) -> list[str]:
    """Names of the samplers that fit a family, those of plugins too."""
    return [name for name in list_names("sampler") if not why_unfit(family, name)]


def why_unusable(family: Family, options: SamplerConfig, task: str = "") -> str:
    """Why a sampler with these options cannot be used on a family for a task; empty: it can."""
    return (
        why_unfit(family, options.name)
        or why_unfit_for_task(family, options.name, task)
        or why_option_unused(family, options)
    )


def why_unfit_for_task(family: Family, name: str, task: str) -> str:
    """Why a sampler that fits the family does not fit this task; empty: it does."""
    if not starts_from_image(family, task) or name not in SAMPLERS:
        return ""
    if family.schedule not in SAMPLERS[name].not_from_image:
        return ""
    return f"{name} cannot start from an image on {family.schedule} models: diffusers would skip too many of its steps"


def why_unfit(family: Family, name: str) -> str:
    """Why a sampler does not fit a family; empty: it does. A plugin's sampler is assumed to fit."""
    if name in family.unsupported_samplers:
        return family.unsupported_samplers[name]
    if name == fitted.NAME:
        return fitted.why_unfit(family.schedule)
    if name not in SAMPLERS or family.schedule in SAMPLERS[name].classes:
        return ""
    return f"{name} makes no {family.schedule} steps, only {' and '.join(SAMPLERS[name].classes)} steps"


def why_option_unused(family: Family, options: SamplerConfig) -> str:
    """Which option could not take effect on a family that the sampler fits, and why; empty: none."""
    if options.name not in SAMPLERS or why_unfit(family, options.name):
        return ""
    sampler, kind = SAMPLERS[options.name], family.schedule
    for key, option in sampler_keys(sampler).items():
        value = getattr(options, key)
        if kind not in (sampler.spacing_kinds if key == "sigmas" else option.kinds) and value != option.default:
            text = value.value if isinstance(value, Enum) else value
            return f"sampler.{key}={text} could not take effect: {sampler.classes[kind]} has no such option"
    return ""
