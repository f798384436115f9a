"""Samplers: which diffusers scheduler steps from noise to image, and its options.

An implementation is `build(pipe, options) -> scheduler`. It is made from the configuration of `pipe.scheduler`, which
must be the model's own, so a caller that tries several keeps that one and puts it back in between. Options set to null
stay as the model has them. `table.py` has every sampler as data; `why_unusable` says which fits which family.
"""

from .options import (
    DefaultSampler,
    count_denoiser_calls,
    deterministic_samplers,
    find_max_steps,
    fitting_samplers,
    is_stochastic,
    model_default_sampler,
    required_distillation,
    resolve_sampler,
    why_option_unused,
    why_unfit,
    why_unfit_for_task,
    why_unusable,
)
from .table import SAMPLERS, Sigmas

__all__ = [
    "SAMPLERS",
    "DefaultSampler",
    "Sigmas",
    "count_denoiser_calls",
    "deterministic_samplers",
    "find_max_steps",
    "fitting_samplers",
    "is_stochastic",
    "model_default_sampler",
    "required_distillation",
    "resolve_sampler",
    "why_option_unused",
    "why_unfit",
    "why_unfit_for_task",
    "why_unusable",
]
