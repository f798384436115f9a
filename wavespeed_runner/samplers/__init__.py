"""Samplers: which diffusers scheduler steps from noise to image, and its options.

An implementation is `build(pipe, options) -> scheduler`. It is made from the configuration of `pipe.scheduler`, which
must be the model's own, so a caller that tries several keeps that one and puts it back in between. Options set to null
stay as the model has them. `table.py` has every sampler as data; `why_not` says which fits which family.
"""

from .options import (
    DefaultSampler,
    denoiser_calls,
    deterministic,
    distilled_for,
    fitting,
    is_stochastic,
    most_steps,
    of_no_effect,
    own,
    taken,
    unfit,
    unfit_for_task,
    why_not,
)
from .table import SAMPLERS, Sigmas

__all__ = [
    "SAMPLERS",
    "DefaultSampler",
    "Sigmas",
    "denoiser_calls",
    "deterministic",
    "distilled_for",
    "fitting",
    "is_stochastic",
    "most_steps",
    "of_no_effect",
    "own",
    "taken",
    "unfit",
    "unfit_for_task",
    "why_not",
]
