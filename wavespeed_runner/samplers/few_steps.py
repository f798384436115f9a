"""Which solvers and spacings gave no image at few steps, where `benchmarks.few_steps` measured it: docs/sampling.md.

On diffusion models. Of a step with two calls of the denoiser there are few at few evaluations; and multistep solvers
extrapolate over the steps before, which spacings that differ much from step to step carry too far. More steps are not
always better, so nothing is said of numbers of steps that were not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

from ..config.schema import SamplerConfig
from ..registry import lookup
from .build import SPACING_KEYS
from .table import Sigmas

MEASURED_ON = "pkg://wavespeed_runner/weights/demo_unet"
"""The weights that it was measured on, a Stable Diffusion U-Net with v-prediction."""

NO_IMAGE: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "heun": ((2, 3), (4,)),
    "heun sigmas=karras": ((2, 3), (4,)),
    "heun sigmas=beta": ((2, 3, 4), ()),
    "heun timestep_spacing=leading": ((2, 3), (4,)),
    "dpm2": ((2,), (3, 4)),
    "dpm2 sigmas=karras": ((2,), (3, 4)),
    "dpm2 sigmas=beta": ((2, 3), (4,)),
    "dpm2 timestep_spacing=leading": ((2, 3), (4,)),
    "dpmpp_2m sigmas=karras": ((3, 4), (5, 6, 8)),
    "dpmpp_2m sigmas=beta": ((3, 4, 5, 6), (8,)),
    "dpmpp_3m sigmas=karras": ((3, 4), (5, 6, 8)),
    "dpmpp_3m sigmas=beta": ((3, 4, 5, 6, 8), ()),
    "dpmpp_2s sigmas=beta": ((3, 5), (4, 6, 8)),
    "deis sigmas=karras": ((3,), (4, 5, 6, 8)),
    "deis sigmas=beta": ((3, 4, 5, 6), (8,)),
    "deis sigmas=karras order=3": ((3,), (4, 5, 6, 8)),
    "deis sigmas=beta order=3": ((3, 4, 5, 6, 8), ()),
    "unipc sigmas=karras": ((3, 4), (5, 6, 8)),
    "unipc sigmas=beta": ((3, 4, 5, 6, 8), ()),
    "unipc sigmas=karras order=3": ((3, 4, 5), (6, 8)),
    "unipc sigmas=beta order=3": ((3, 4, 5, 6, 8), ()),
    "pndm": ((2, 4, 5), (3, 7)),
    "pndm timestep_spacing=leading": ((2, 3, 5), (4, 7)),
}
"""Sampler with what it has of its own -> (the steps at which the median SSIM to the model's full steps was below 0.5,
those at which it was not). `tests/benchmarks/test_few_steps.py` compares it with the results."""
OWN_SPACING = "trailing"
"""The timestep spacing of the model that it was measured on, where a key of `NO_IMAGE` names none."""


def find_imageless(options: SamplerConfig, steps: int, scheduler: Mapping[str, Any] | None) -> tuple[str, list[int]]:
    """The setting that gave no image in so many steps, and the numbers of steps at which it gave one.

    Args:
        options: of the sampler that is used, not those of `default`.
        steps: of the run.
        scheduler: the configuration of the model's own scheduler, whose spacings a null stands for; None: not known.

    Returns:
        `heun with trailing timesteps`; empty: it gave an image, or was not measured.
    """
    own = _list_own(options, scheduler or {})
    spacings = [own.pop("timestep_spacing", OWN_SPACING)]
    if getattr(options, "timestep_spacing", "") is None and "timestep_spacing" not in (scheduler or {}):
        spacings = [OWN_SPACING, "leading"]  # not known: what holds for all that were measured
    keys = [_make_key(options.name, {"timestep_spacing": spacing} | own) for spacing in spacings]
    found = [(spacing, NO_IMAGE[key]) for spacing, key in zip(spacings, keys, strict=True) if key in NO_IMAGE]
    if not found or not all(steps in imageless for _, (imageless, _) in found):
        return "", []
    levels = [f"{own['sigmas']} noise levels"] if "sigmas" in own else []
    if hasattr(options, "timestep_spacing"):
        levels.append(f"{' and with '.join(spacing for spacing, _ in found)} timesteps")
    good = sorted(set.intersection(*(set(good) for _, (_, good) in found)))
    return f"{options.name}{' with ' * bool(levels)}{' and '.join(levels)}", good


def _list_own(options: SamplerConfig, scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """What is not at its default, with the model's own spacings filled in; uniform noise levels are the default."""
    plain = lookup("sampler", options.name).options()
    own = {key: value for key, value in vars(options).items() if value != getattr(plain, key)}
    if hasattr(options, "timestep_spacing") and "timestep_spacing" in scheduler:
        own.setdefault("timestep_spacing", scheduler["timestep_spacing"])
    if hasattr(options, "sigmas"):
        theirs = next((spacing for spacing, key in SPACING_KEYS.items() if scheduler.get(key)), Sigmas.uniform)
        if own.setdefault("sigmas", theirs) is Sigmas.uniform:
            del own["sigmas"]
    return {key: value.value if isinstance(value, Enum) else value for key, value in own.items()}


def _make_key(name: str, own: Mapping[str, Any]) -> str:
    """The key of `NO_IMAGE`, in which options stand in the order that samplers have them."""
    order = sorted(own, key=lambda key: (key != "sigmas", key != "timestep_spacing"))
    return " ".join([name, *(f"{key}={own[key]}" for key in order if own[key] != OWN_SPACING)])
