"""The spectral filter against diffusers' own, against its formula in float64, and inside whole generations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler
from diffusers.hooks.sea_cache import _apply_sea_filter
from hypothesis import given
from hypothesis import strategies as st

from tests.caching.generate import ALWAYS, Generated
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange
from wavespeed_runner.caching.interfaces import DenoiserCall, StepInfo
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.sea import (
    FilteredLatents,
    FilteredLatentsSignal,
    filter_latents,
    split_noise_level,
)
from wavespeed_runner.caching.strategies import SeaCache
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.samplers.noise_levels import read_noise_levels
from wavespeed_runner.stages.attached import find_token_grid

SIGMAS = [0.0, 1e-9, 0.03, 0.5, 0.97, 1.0]
SHAPES = [(2, 3, 5, 6, 8), (1, 4, 4, 7, 5), (1, 16, 1, 8, 8)]


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def build_call(latents: torch.Tensor, sigma: float, **more: Any) -> DenoiserCall:
    return DenoiserCall(at=StepInfo(step=1, steps=4, sigma=sigma), before={}, after={}, latents=latents, **more)


@pytest.mark.parametrize("sigma", SIGMAS)
@pytest.mark.parametrize("shape", SHAPES)
def test_videos_are_filtered_as_diffusers_does(shape: tuple[int, ...], sigma: float) -> None:
    latents = noise(*shape)
    ours = FilteredLatentsSignal(FilteredLatents(power_exponent=3.0))(build_call(latents, sigma))
    theirs = [_apply_sea_filter(row.movedim(0, -1), sigma, 3.0).movedim(-1, 0) for row in latents]
    torch.testing.assert_close(ours, torch.stack(theirs), rtol=1e-4, atol=1e-5)


def filter_by_formula(latents: np.ndarray, a: float, b: float, exponent: float) -> np.ndarray:
    """In complex double, along each axis after (n, channels): the gain a S / (a^2 S + b^2), 1 on average."""
    axes = tuple(range(2, latents.ndim))
    gain = np.ones(latents.shape[2:])
    for axis, size in enumerate(latents.shape[2:]):
        with np.errstate(divide="ignore"):
            power = 1 / np.abs(np.fft.fftfreq(size)) ** exponent
        power[0] = 1e300
        along = a * power / (a * a * power + b * b)
        gain = gain * along.reshape([-1 if i == axis else 1 for i in range(gain.ndim)])
    return np.fft.ifftn(np.fft.fftn(latents, axes=axes) * (gain / gain.mean()), axes=axes).real


@given(
    size=st.lists(st.integers(1, 9), min_size=2, max_size=3),
    sigma=st.floats(1e-3, 30),
    exponent=st.floats(0.5, 4),
    seed=st.integers(0, 9),
)
def test_the_filter_of_diffusion_models_is_the_formula(
    size: list[int], sigma: float, exponent: float, seed: int
) -> None:
    latents = noise(2, 3, *size, seed=seed, dtype=torch.float64)
    a, b = split_noise_level(sigma, flow=False)
    assert a**2 + b**2 == pytest.approx(1) and b / a == pytest.approx(sigma)
    ours = filter_latents(latents, a, b, exponent=exponent)
    np.testing.assert_allclose(ours.numpy(), filter_by_formula(latents.numpy(), a, b, exponent), atol=1e-9)


def test_packed_tokens_are_filtered_by_their_grid() -> None:
    image, video = noise(2, 4, 5, 6), noise(2, 4, 3, 5, 6)
    a, b = split_noise_level(0.4, flow=True)
    for latents in (image, video):
        grid = tuple(latents.shape[2:])
        packed = latents.flatten(2).mT
        signal = FilteredLatentsSignal(FilteredLatents())
        torch.testing.assert_close(
            signal(build_call(packed, 0.4, grid=grid)).movedim(-1, 1), signal(build_call(latents, 0.4))
        )
    frames_first = filter_latents(video.movedim(2, 1), a, b, channel_axis=2)
    torch.testing.assert_close(frames_first.movedim(1, 2), filter_latents(video, a, b))


def test_the_exponent_is_2_for_images_and_3_for_videos() -> None:
    a, b = split_noise_level(0.7, flow=True)
    for shape, exponent in (((1, 2, 6, 6), 2.0), ((1, 2, 3, 6, 6), 3.0), ((1, 2, 1, 6, 6), 2.0)):
        latents = noise(*shape)
        assert torch.equal(filter_latents(latents, a, b), filter_latents(latents, a, b, exponent=exponent))
        assert not torch.equal(filter_latents(latents, a, b), filter_latents(latents, a, b, exponent=2.5))


def test_rows_are_filtered_independently() -> None:
    rows = noise(3, 4, 8, 8)
    a, b = split_noise_level(0.5, flow=True)
    alone = torch.cat([filter_latents(row[None], a, b) for row in rows])
    torch.testing.assert_close(filter_latents(rows, a, b), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [EulerDiscreteScheduler, DDIMScheduler])
def test_the_input_of_diffusion_models_is_the_mixture_that_the_gain_assumes(kind: Any) -> None:
    """`a * image + b * noise`, whether the sampler scales the denoiser's input or keeps it scaled all the way."""
    scheduler = kind(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    scheduler.set_timesteps(10)
    image, eps = noise(1, 4, 8, 8), noise(1, 4, 8, 8, seed=1)
    for index, t in enumerate(scheduler.timesteps):
        noisy = scheduler.add_noise(image, eps, t.reshape(1).to(scheduler.timesteps.dtype))
        denoiser_input = scheduler.scale_model_input(noisy, t)
        if hasattr(scheduler, "_step_index"):
            scheduler._step_index = None
        a, b = split_noise_level(read_noise_levels(scheduler)[index], flow=False)
        torch.testing.assert_close(denoiser_input, a * image + b * eps, rtol=1e-3, atol=1e-4)


def test_bfloat16_is_filtered_in_float32() -> None:
    latents = noise(1, 4, 8, 8, dtype=torch.bfloat16)
    ours = filter_latents(latents, 0.5, 0.5)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, filter_latents(latents.float(), 0.5, 0.5))


def test_tokens_without_a_grid_are_refused() -> None:
    with pytest.raises(RunError, match="30 latent tokens"):
        FilteredLatentsSignal(FilteredLatents())(build_call(noise(1, 30, 4), 0.5))


@pytest.mark.parametrize("exponent", [0.0, -1.0, float("inf"), float("nan")])
def test_impossible_exponents_are_refused(exponent: float) -> None:
    with pytest.raises(ConfigError, match=r"cache\.signal\.power_exponent"):
        FilteredLatents(power_exponent=exponent)


def strategy(threshold: float) -> SeaCache:
    """The strategy that `cache=seacache` composes, without its window."""
    return SeaCache(
        threshold=threshold,
        signal=FilteredLatents(),
        criterion=AccumulatedChange(threshold=threshold),
        predictor=Reuse(),
    )


def generate(generated: Generated, threshold: float, steps: int = 8) -> tuple[Any, Any]:
    levels = lambda: read_noise_levels(generated.pipe.scheduler)  # noqa: E731
    info = GenerationInfo(
        steps=lambda: steps, sigmas=levels, grid=lambda tokens: find_token_grid(tokens, (64, 64, None), 1)
    )
    with attach_strategy([generated.denoiser], FLUX.blocks, strategy(threshold), info) as trace:
        return generated.denoise(steps=steps, on_step=trace.end_step), trace


def test_a_generation_hits_and_a_threshold_of_0_changes_nothing(plain: Generated) -> None:
    reference = plain.denoise(steps=8)
    latents, trace = generate(plain, 0.0)
    assert torch.equal(latents, reference)
    changes = [d.signal for d in trace.decisions[1:]]
    assert all(change is not None and change > 0 for change in changes)
    total = sum(change or 0 for change in changes)
    latents, trace = generate(plain, total / 3)
    computed = sum(d.computed for d in trace.decisions)
    assert 1 < computed < 8 and torch.isfinite(latents).all()
    _, trace = generate(plain, ALWAYS)
    assert [d.computed for d in trace.decisions] == [True] + 7 * [False]
    assert all(not d.ran for d in trace.decisions[1:])


def test_what_is_measured_is_diffusers_distance_of_diffusers_indicator(plain: Generated) -> None:
    """From step to step, mean|s - s_p| / mean|s_p| of `_apply_sea_filter`'s output on the denoiser's inputs."""
    inputs: list[torch.Tensor] = []
    handle = plain.denoiser.register_forward_pre_hook(
        lambda _, args, kwargs: inputs.append(kwargs["hidden_states"]), with_kwargs=True
    )
    try:
        _, trace = generate(plain, 0.0)
    finally:
        handle.remove()
    side = int(inputs[0].shape[1] ** 0.5)
    indicators = [
        # One frame: along time there is only frequency 0, and the normalization cancels its gain.
        _apply_sea_filter(latents.reshape(1, side, side, -1), sigma, 2.0)
        for latents, sigma in zip(inputs, read_noise_levels(plain.pipe.scheduler), strict=True)
    ]
    for decision, now, then in zip(trace.decisions[1:], indicators[1:], indicators, strict=False):
        assert decision.signal == pytest.approx(float((now - then).abs().mean() / then.abs().mean()), rel=1e-3)
