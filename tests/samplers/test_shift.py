"""`sampler.shift` and the spacings: every flow sampler has the noise levels that the formula gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.models.shipped import config_of
from tests.samplers.tiny_pipelines import options_of
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import SAMPLERS, Sigmas, why_unusable
from wavespeed_runner.samplers.build import build_scheduler
from wavespeed_runner.samplers.table import TimestepSpacing

FLOW = [name for name, sampler in SAMPLERS.items() if "flow" in sampler.classes]
STEPS = 4
EVEN = [1.0, 0.75, 0.5, 0.25]
ROUNDING = 2.5e-3
"""Solvers begin one of a thousand training steps below 1, and some space the steps over what is left."""


def shifted(levels: list[float], shift: float) -> list[float]:
    """What a shift does to noise levels between 0 and 1."""
    return [shift * level / (1 + (shift - 1) * level) for level in levels]


def levels_of(scheduler: Any, **given: Any) -> Any:
    scheduler.set_timesteps(**given)
    return scheduler.sigmas[:-1].unique_consecutive()


@pytest.mark.parametrize("shift", [0.5, 1.65, 3.0])
@pytest.mark.parametrize("name", FLOW)
def test_a_shift_gives_every_sampler_the_same_levels(name: str, shift: float) -> None:
    """Of models whose pipelines pass levels and the shift for the size (FLUX), and of those that pass steps (Wan)."""
    from diffusers import FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler

    class Flux:
        scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)

    class Wan:
        scheduler = UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=5.0)

    expected = torch.tensor(shifted(EVEN, shift))
    for pipe, given in ((Flux, {"sigmas": EVEN, "mu": 0.9}), (Wan, {"num_inference_steps": STEPS})):
        found = levels_of(build_scheduler(pipe, options_of(name, shift=shift)), **given)
        assert torch.allclose(found, expected, atol=ROUNDING), (pipe.__name__, found)
        own = levels_of(build_scheduler(pipe, options_of(name)), **given)
        assert torch.allclose(own, torch.tensor(shifted(EVEN, 2.71828**0.9 if pipe is Flux else 5.0)), atol=ROUNDING)


@pytest.mark.parametrize("name", ["unipc", "dpmpp_2m"])
def test_spacings_are_offered_for_the_demo_models(name: str) -> None:
    values: list[dict[str, Any]] = [{"sigmas": sigmas} for sigmas in Sigmas]
    for model, only, refused in (
        ("demo", {"shift": 1.65}, {"timestep_spacing": TimestepSpacing.leading}),
        ("demo_unet", {"timestep_spacing": TimestepSpacing.leading}, {"shift": 1.65}),
    ):
        family = find_implementation("model", config_of(model))
        for given in (*values, only):
            assert why_unusable(family, options_of(name, **given)) == "", (model, given)
        assert "could not take effect" in why_unusable(family, options_of(name, **refused)), model
