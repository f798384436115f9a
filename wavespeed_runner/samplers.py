"""Samplers: which diffusers scheduler steps from noise to picture, and its options.

An implementation is `build(pipe, options) -> scheduler`. It is made from the configuration of `pipe.scheduler`, which
must be the model's own, so a caller that tries several keeps that one and puts it back in between. Options set to null
stay as the model has them. Which samplers are right for which model stands in `models.family.Family.samplers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from inspect import signature
from typing import Any

from .config import SamplerConfig
from .errors import ConfigError
from .registry import register

SHIFT_BY_SIZE = ("base_shift", "max_shift", "base_image_seq_len", "max_image_seq_len")
"""Keys by which a pipeline reckons the shift for a picture's size; it reads them from any scheduler's configuration."""


class Sigmas(Enum):
    """How the noise levels of the steps are spaced."""

    uniform = "uniform"
    """As the model was trained, with its shift."""
    karras = "karras"
    """Karras et al. 2022, https://arxiv.org/abs/2206.00364: more steps at low noise."""
    exponential = "exponential"
    """Evenly in the logarithm."""
    beta = "beta"
    """Quantiles of a beta distribution, https://arxiv.org/abs/2407.12173: more steps at both ends."""


@dataclass(kw_only=True)
class DefaultSampler(SamplerConfig):
    """The model's own scheduler, untouched."""

    name: str = "default"


@dataclass(kw_only=True)
class EulerSampler(SamplerConfig):
    """Euler steps along the flow: `FlowMatchEulerDiscreteScheduler`, for flow-matching models."""

    name: str = "euler"
    sigmas: Sigmas = Sigmas.uniform
    shift: float | None = None
    """One fixed shift of the noise levels for every picture size; null: the model's own, also where it depends on
    the size. Higher: more steps at high noise."""
    stochastic: bool = False
    """Jump to the predicted picture and add fresh noise each step, instead of following the flow."""

    def __post_init__(self) -> None:
        _positive(self.shift)


@dataclass(kw_only=True)
class UniPCSampler(SamplerConfig):
    """UniPC, a predictor and corrector of higher order, https://arxiv.org/abs/2302.04867, on a flow's noise levels."""

    name: str = "unipc"
    order: int = 2
    """Order of the solver; 2 or 3."""
    shift: float | None = None
    """As for `euler`."""

    def __post_init__(self) -> None:
        _positive(self.shift)
        if self.order not in (2, 3):
            raise ConfigError(f"sampler.order={self.order}: allowed: 2, 3")


def is_stochastic(options: SamplerConfig) -> bool:
    """Whether steps draw fresh noise. Reuse is then worth less: what a cache watches changes at random every step."""
    return bool(getattr(options, "stochastic", False))


def _positive(shift: float | None) -> None:
    if shift is not None and not shift > 0:
        raise ConfigError(f"sampler.shift={shift}: must be above 0, or null for the model's own")


@register("sampler", "default", DefaultSampler)
def default(pipe: Any, options: DefaultSampler) -> Any:
    """The scheduler that the model came with."""
    return pipe.scheduler


def _fixed_shift(shift: float | None) -> dict[str, Any]:
    """A fixed shift takes the place of one that follows the size: schedulers ignore `shift` while that is on."""
    return {} if shift is None else {"shift": shift, "use_dynamic_shifting": False}


@register("sampler", "euler", EulerSampler)
def euler(pipe: Any, options: EulerSampler) -> Any:
    """A `FlowMatchEulerDiscreteScheduler` of the model's configuration with these options."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler.from_config(
        pipe.scheduler.config,
        use_karras_sigmas=options.sigmas is Sigmas.karras,
        use_exponential_sigmas=options.sigmas is Sigmas.exponential,
        use_beta_sigmas=options.sigmas is Sigmas.beta,
        stochastic_sampling=options.stochastic,
        **_fixed_shift(options.shift),
    )


@register("sampler", "unipc", UniPCSampler)
def unipc(pipe: Any, options: UniPCSampler) -> Any:
    """A `UniPCMultistepScheduler` that predicts flow. Its shift has another name than that of the flow schedulers."""
    from diffusers import UniPCMultistepScheduler

    fixed = _fixed_shift(options.shift)
    given = pipe.scheduler.config
    flow_shift = fixed.pop("shift", given.get("shift", 1.0))
    known = signature(UniPCMultistepScheduler.__init__).parameters
    scheduler = UniPCMultistepScheduler(
        **{key: value for key, value in given.items() if key in known}
        | {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "solver_order": options.order}
        | {"flow_shift": flow_shift, **fixed}
    )
    scheduler.register_to_config(**{key: given[key] for key in SHIFT_BY_SIZE if key in given})
    return scheduler
