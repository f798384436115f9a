"""Samplers: which diffusers scheduler steps from noise to image, and with which options.

`table.py` lists every sampler as data. `build.py` builds a scheduler from the options and from the configuration of
`pipe.scheduler`, which must be the model's own: code that tries several samplers puts the model's scheduler back in
between. Options that are null stay as the model has them. The `why_...` functions say why a sampler does not fit.
"""

from . import fitted
from .few_steps import find_imageless
from .options import (
    DefaultSampler,
    count_denoiser_calls,
    deterministic_samplers,
    find_max_steps,
    fitting_samplers,
    full_sampler,
    is_own_sampler,
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
    "find_imageless",
    "find_max_steps",
    "fitted",
    "fitting_samplers",
    "full_sampler",
    "is_own_sampler",
    "is_stochastic",
    "model_default_sampler",
    "required_distillation",
    "resolve_sampler",
    "why_option_unused",
    "why_unfit",
    "why_unfit_for_task",
    "why_unusable",
]
