"""Which solvers and spacings gave no image at few steps, where `benchmarks.few_steps` measured it: docs/sampling.md.

On diffusion models. Of a step with two calls of the denoiser there are few at few evaluations; and multistep solvers
extrapolate over the steps before, which spacings that differ much from step to step carry too far.
"""

from __future__ import annotations

from enum import Enum

from ..config.schema import SamplerConfig
from ..registry import lookup

MEASURED_ON = "pkg://wavespeed_runner/weights/demo_unet"
"""The weights that it was measured on, a Stable Diffusion U-Net with v-prediction."""

NO_IMAGE: dict[str, int] = {
    "heun": 3,
    "heun sigmas=karras": 3,
    "heun sigmas=beta": 4,
    "heun timestep_spacing=leading": 3,
    "dpm2": 2,
    "dpm2 sigmas=karras": 2,
    "dpm2 sigmas=beta": 3,
    "dpm2 timestep_spacing=leading": 3,
    "dpmpp_2m sigmas=karras": 4,
    "dpmpp_2m sigmas=beta": 6,
    "dpmpp_3m sigmas=karras": 4,
    "dpmpp_3m sigmas=beta": 8,
    "dpmpp_2s sigmas=beta": 5,
    "deis sigmas=karras": 3,
    "deis sigmas=beta": 6,
    "deis sigmas=karras order=3": 3,
    "deis sigmas=beta order=3": 8,
    "unipc sigmas=karras": 4,
    "unipc sigmas=beta": 8,
    "unipc sigmas=karras order=3": 5,
    "unipc sigmas=beta order=3": 8,
    "pndm": 5,
    "pndm timestep_spacing=leading": 5,
}
"""Sampler with what it has of its own -> the most steps at which the median SSIM to the model's full steps was below
0.5. `tests/benchmarks/test_few_steps.py` compares it with the results."""


def count_imageless_steps(options: SamplerConfig) -> int:
    """The most steps at which these options gave no image; 0: none was seen, or it was not measured."""
    plain = lookup("sampler", options.name).options()
    own = {key: value for key, value in vars(options).items() if value != getattr(plain, key)}
    values = [f"{key}={value.value if isinstance(value, Enum) else value}" for key, value in own.items()]
    return NO_IMAGE.get(" ".join([options.name, *values]), 0)
