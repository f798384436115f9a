"""Samplers against schedulers of diffusers that are built by hand: the same bits."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch

from tests.models.test_every_model import config_of
from tests.samplers.tiny_pipelines import TinyPipeline, options_of
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.samplers import (
    Sigmas,
    why_unusable,
)
from wavespeed_runner.samplers.build import build_scheduler

HAND_FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "use_dynamic_shifting": True}


DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2}


@pytest.mark.parametrize(
    ("options", "kind", "arguments"),
    [
        (("euler", {"sigmas": Sigmas.karras}), "FlowMatchEulerDiscrete", {"use_karras_sigmas": True}),
        (("euler", {"sigmas": Sigmas.exponential}), "FlowMatchEulerDiscrete", {"use_exponential_sigmas": True}),
        (("euler", {"sigmas": Sigmas.beta}), "FlowMatchEulerDiscrete", {"use_beta_sigmas": True}),
        (("euler", {"shift": 2.0}), "FlowMatchEulerDiscrete", {"shift": 2.0, "use_dynamic_shifting": False}),
        (("euler", {"stochastic": True}), "FlowMatchEulerDiscrete", {"stochastic_sampling": True}),
        (("euler", {"shift_terminal": 0.1}), "FlowMatchEulerDiscrete", {"shift_terminal": 0.1}),
        (("lcm", {}), "FlowMatchLCM", {}),
        (("unipc", {}), "UniPCMultistep", HAND_FLOW),
        (("unipc", {"order": 3}), "UniPCMultistep", {**HAND_FLOW, "solver_order": 3}),
        (("dpmpp_2m", {}), "DPMSolverMultistep", {**HAND_FLOW, **DPM}),
        (("dpmpp_3m", {}), "DPMSolverMultistep", {**HAND_FLOW, **DPM, "solver_order": 3}),
        (("dpmpp_2m_sde", {}), "DPMSolverMultistep", {**HAND_FLOW, **DPM, "algorithm_type": "sde-dpmsolver++"}),
        (("dpmpp_2s", {}), "DPMSolverSinglestep", {**HAND_FLOW, **DPM, "lower_order_final": True}),
    ],
)
def test_on_a_flow_model_it_is_what_diffusers_makes_by_hand(
    flow: TinyPipeline, options: Any, kind: str, arguments: dict[str, Any]
) -> None:
    import diffusers

    given = arguments if arguments.get("use_flow_sigmas") else {"shift": 3.0, "use_dynamic_shifting": True, **arguments}
    theirs = getattr(diffusers, f"{kind}Scheduler")(**given)
    assert torch.equal(flow.sample(options_of(options[0], **options[1]), steps=4)[0], flow.run(theirs, steps=4)[0])


KARRAS = {"use_karras_sigmas": True}


@pytest.mark.parametrize(
    ("options", "kind", "arguments"),
    [
        (("euler", {}), "EulerDiscrete", {}),
        (("euler", {"sigmas": Sigmas.karras}), "EulerDiscrete", KARRAS),
        (("euler_ancestral", {}), "EulerAncestralDiscrete", {}),
        (("heun", {"sigmas": Sigmas.exponential}), "HeunDiscrete", {"use_exponential_sigmas": True}),
        (("dpm2", {"sigmas": Sigmas.karras}), "KDPM2Discrete", KARRAS),
        (("dpm2_ancestral", {}), "KDPM2AncestralDiscrete", {}),
        (("lms", {"sigmas": Sigmas.beta}), "LMSDiscrete", {"use_beta_sigmas": True}),
        (("dpmpp_2m", {"sigmas": Sigmas.karras}), "DPMSolverMultistep", {**DPM, **KARRAS}),
        (("dpmpp_2m_sde", {}), "DPMSolverMultistep", {**DPM, "algorithm_type": "sde-dpmsolver++"}),
        (("dpmpp_2s", {}), "DPMSolverSinglestep", {**DPM, "lower_order_final": True}),
        (("deis", {"order": 3}), "DEISMultistep", {"solver_order": 3}),
        (("unipc", {"sigmas": Sigmas.karras}), "UniPCMultistep", KARRAS),
        (("sasolver", {}), "SASolver", {}),
        (("ddpm", {}), "DDPM", {"clip_sample": False}),
        (("lcm", {}), "LCM", {}),
    ],
)
def test_on_a_diffusion_model_it_is_what_diffusers_makes_by_hand(
    unet: TinyPipeline, options: Any, kind: str, arguments: dict[str, Any]
) -> None:
    import diffusers

    scheduler_class = getattr(diffusers, f"{kind}Scheduler")
    takes = signature(scheduler_class.__init__).parameters
    own = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": False}
    own |= {"steps_offset": 1, "clip_sample": False}
    theirs = scheduler_class(**{**{key: value for key, value in own.items() if key in takes}, **arguments})
    assert torch.equal(unet.sample(options_of(options[0], **options[1]), steps=4)[0], unet.run(theirs, steps=4)[0])


@pytest.mark.parametrize(("name", "kind"), [("ddim", "DDIMScheduler"), ("tcd", "TCDScheduler")])
def test_eta_reaches_every_step(unet: TinyPipeline, name: str, kind: str) -> None:
    """Against a loop written here, because the pipeline always passes 0."""
    import diffusers

    theirs = getattr(diffusers, kind).from_config(unet.own.config, clip_sample=False)
    ours = build_scheduler(unet.pipe, options_of(name, eta=0.7))
    results = []
    for scheduler, given in ((theirs, {"eta": 0.7}), (ours, {"eta": 0.0})):
        scheduler.set_timesteps(4)
        x, generator = torch.ones(1, 4, 8, 8), torch.Generator().manual_seed(1)
        for timestep in scheduler.timesteps:
            x = scheduler.step(0.3 * x, timestep, x, generator=generator, return_dict=False, **given)[0]
        results.append(x)
    assert torch.equal(*results)
    still = [unet.sample(options_of(name, eta=eta), steps=4)[0] for eta in (0.0, 0.7)]
    assert not torch.equal(*still)


def test_eta_has_no_effect_on_cogvideox_and_is_refused() -> None:
    from diffusers import CogVideoXDDIMScheduler

    class Pipe:
        scheduler = CogVideoXDDIMScheduler()

    ends = []
    for eta in (0.0, 1.0):
        Pipe.scheduler.set_timesteps(4)
        x = torch.ones(1, 2, 4, 8, 8)
        for timestep in Pipe.scheduler.timesteps:
            x = Pipe.scheduler.step(0.3 * x, timestep, x, eta=eta, generator=torch.Generator())[0]
        ends.append(x)
    assert torch.equal(*ends), "diffusers now uses eta: allow it"
    family = find_implementation("model", config_of("cogvideox"))
    assert "sampler.eta=0.5 could not take effect" in why_unusable(family, options_of("ddim", eta=0.5))
    assert why_unusable(family, options_of("ddim")) == ""
