"""Every sampler against exact answers: it ends where the data is, and converges as fast as its order says."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.samplers.sampler_truth import DEVIATION, crowd, diffusion, flow, grid
from wavespeed_runner.registry import lookup
from wavespeed_runner.samplers import SAMPLERS, Sigmas, count_denoiser_calls, is_stochastic
from wavespeed_runner.samplers.build import build_scheduler


def options_of(name: str, **values: Any) -> Any:
    return lookup("sampler", name).options(**values)


def cases(kind: str, *, stochastic: bool) -> list[tuple[str, Any]]:
    """(sampler, spacing) of those whose steps draw noise or not."""
    return [
        (name, sigmas)
        for name, sampler in SAMPLERS.items()
        if kind in sampler.classes and is_stochastic(options_of(name)) == stochastic
        for sigmas in (tuple(Sigmas) if kind in sampler.spacing_kinds else (None,))
    ]


def predictions(cases_: list[tuple[str, Any]]) -> list[tuple[str, Any, str]]:
    """Adds every prediction type once per sampler: it does not interact with the spacing."""
    return [
        (name, sigmas, prediction)
        for name, sigmas in cases_
        for prediction in (("epsilon", "v_prediction") if sigmas in (None, Sigmas.uniform) else ("epsilon",))
    ]


def build(name: str, sigmas: Any, own: Any, **values: Any) -> Any:
    class Pipe:
        scheduler = own

    return build_scheduler(Pipe, options_of(name, **({} if sigmas is None else {"sigmas": sigmas}), **values))


def flow_error(name: str, sigmas: Any, steps: int, shift: float = 1.0) -> float:
    from diffusers import FlowMatchEulerDiscreteScheduler

    scheduler = build(name, sigmas, FlowMatchEulerDiscreteScheduler(shift=shift))
    ended, expected = flow(scheduler, steps, grid())
    return float((ended - expected).abs().max())


def unet_scheduler(prediction: str) -> Any:
    """The scheduler of Stable Diffusion."""
    from diffusers import PNDMScheduler

    return PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", set_alpha_to_one=False, steps_offset=1,
        skip_prk_steps=True, prediction_type=prediction,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "sigmas"), cases("flow", stochastic=False))
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_on_a_flow_it_converges(name: str, sigmas: Any, shift: float) -> None:
    if shift > 1 and sigmas in (Sigmas.exponential, Sigmas.beta):
        pytest.skip("a shift and a spacing meet in karras already")
    coarse, fine = (flow_error(name, sigmas, steps, shift) for steps in (5, 40))
    assert fine < 0.08 and fine < 0.25 * coarse


@pytest.mark.parametrize("name", ["heun", "dpmpp_2m", "dpmpp_3m", "dpmpp_2s", "deis", "unipc"])
def test_on_a_flow_a_higher_order_is_closer(name: str) -> None:
    for sigmas in (Sigmas.uniform, Sigmas.karras):
        assert flow_error(name, sigmas, 20) < 0.5 * flow_error("euler", sigmas, 20)


@pytest.mark.parametrize(("name", "sigmas", "prediction"), predictions(cases("diffusion", stochastic=False)))
def test_on_a_diffusion_it_converges(name: str, sigmas: Any, prediction: str) -> None:
    own, errors = unet_scheduler(prediction), []
    for steps in (20, 60) if sigmas is Sigmas.beta else (10, 40):  # beta puts many steps where nothing happens
        scheduler = build(name, sigmas, own)
        ended, expected, calls = diffusion(scheduler, steps, grid(), own.alphas_cumprod, prediction)
        assert calls == count_denoiser_calls(options_of(name), steps)
        errors.append(float((ended - expected).abs().max()))
    coarse, fine = errors
    assert fine < (0.15 if sigmas is Sigmas.beta else 0.07) and fine < 0.6 * coarse


TO_THE_MEAN = ("lcm",)
"""LCM jumps to the mean of the possible data, so its results spread less than the data."""


@pytest.mark.parametrize(("name", "sigmas"), cases("flow", stochastic=True))
def test_on_a_flow_the_noise_leaves_the_spread_of_the_data(name: str, sigmas: Any) -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    ended, _ = flow(build(name, sigmas, FlowMatchEulerDiscreteScheduler()), 60, crowd())
    assert float(ended.std()) == pytest.approx(0.34 if name in TO_THE_MEAN else DEVIATION, abs=0.05)


@pytest.mark.parametrize(("name", "sigmas", "prediction"), predictions(cases("diffusion", stochastic=True)))
def test_on_a_diffusion_the_noise_leaves_the_spread_of_the_data(name: str, sigmas: Any, prediction: str) -> None:
    own = unet_scheduler(prediction)
    scheduler = build(name, sigmas, own)
    ended, _, calls = diffusion(scheduler, 50, crowd(), own.alphas_cumprod, prediction)
    assert calls == count_denoiser_calls(options_of(name), 50)
    close = 0.16 if sigmas is Sigmas.beta else 0.08
    assert float(ended.std()) == pytest.approx(0.34 if name in TO_THE_MEAN else DEVIATION, abs=close)
    assert torch.isfinite(ended).all()
