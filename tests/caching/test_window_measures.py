"""Windows over timesteps and noise levels, against replicas of the rules of other programs.

ComfyUI's node schedulers and the rule of the node *Apply First Block Cache* are written here from what they do, see
`comfy/samplers.py` and `comfy/model_sampling.py` of https://github.com/comfyanonymous/ComfyUI and `fbcache_nodes.py` of
https://github.com/chengzeyi/Comfy-WaveSpeed. The steps they are expected to compute are counted from 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.caching.window import CacheHits, ask, count_first_steps, is_inside_window, list_computed_steps
from wavespeed_runner.config.schema import CacheConfig, Rounding, Window
from wavespeed_runner.errors import RunError
from wavespeed_runner.samplers.progress import measure_progress

MU, TIMES = 1.15, 10000
"""ComfyUI's default shift of FLUX, and the entries of its table of noise levels."""
SDXL = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


class Always:
    """A criterion that always reuses."""

    watches = "nothing"
    level: float | None = None

    def __init__(self, options: Any = None) -> None:
        pass

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        return True

    def record_computed(self, at: StepInfo) -> None:
        pass


def shift(t: float) -> float:
    """FLUX: the noise level at a time from 0 to 1."""
    return exp(MU) / (exp(MU) + (1 / t - 1)) if t > 0 else 0.0


def list_times(scheduler: str, steps: int) -> list[float]:
    """The times, from 1 to 0, at which ComfyUI's scheduler has its steps, before the shift."""
    if scheduler == "simple":
        return [(TIMES - int(number * (TIMES / steps))) / TIMES for number in range(steps)]
    if scheduler == "normal":
        return [float(t) for t in torch.linspace(1.0, shift(1 / TIMES), steps)]
    parts = 1 - np.linspace(0, 1, steps, endpoint=False)
    return [(int(index) + 1) / TIMES for index in np.rint(beta.ppf(parts, 0.6, 0.6) * (TIMES - 1))]


def replicate_node(sigmas: Sequence[float], start: float, end: float, hits: int) -> list[int]:
    """The node's rule where the change is always small enough: computed steps."""
    bounds = [1.0 if part <= 0 else 0.0 if part >= 1 else shift(1 - part) for part in (start, end)]
    computed, in_a_row = [], 0
    for step, sigma in enumerate(sigmas):
        use = step > 0 and bounds[1] <= sigma <= bounds[0] and in_a_row < hits
        in_a_row = in_a_row + 1 if use else 0
        if not use:
            computed.append(step + 1)
    return computed


def run(cache: CacheConfig, progress: Sequence[float | None]) -> list[int]:
    """The steps that are computed, as the engine has it."""
    hits, computed = CacheHits(), []
    for step, share in enumerate(progress):
        at = StepInfo(step=step, steps=len(progress), sigma=0.0, progress=share)
        skipped = step > 0 and ask(Always(), cache, (), at, hits)
        hits.count(skipped)
        if not skipped:
            computed.append(step + 1)
    return computed


def spread(*parts: int | tuple[int, int]) -> list[int]:
    """`spread((1, 3), 7)` is [1, 2, 3, 7]."""
    pairs = [part if isinstance(part, tuple) else (part, part) for part in parts]
    return [step for first, last in pairs for step in range(first, last + 1)]


@pytest.mark.parametrize(
    ("scheduler", "computed"),
    [
        ("normal", spread((1, 6), 12, 18, (24, 30))),
        ("simple", spread((1, 7), 13, 19, (25, 30))),
        ("beta", spread((1, 9), 15, 21, (23, 30))),
    ],
)
def test_flux_computes_the_steps_that_comfyui_s_node_does(scheduler: str, computed: list[int]) -> None:
    times = list_times(scheduler, 30)
    sigmas = (exp(MU) / (exp(MU) + (1 / torch.tensor(times) - 1))).tolist()  # in float32, as ComfyUI has them
    assert replicate_node(sigmas, 0.2, 0.8, 5) == computed
    ours = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    ours.set_timesteps(sigmas=times, mu=MU)
    ours.last_mu = MU  # as `watch_steps` notes it
    cache = CacheConfig(window=Window.sigmas, start=0.2, end=0.8, max_consecutive_cache_hits=5)
    assert run(cache, measure_progress(ours, Window.sigmas, flow=True)) == computed


def test_diffusers_beta_has_other_steps_in_a_window_than_comfyui_s() -> None:
    """As docs/sampling.md has it, beside the `beta` above."""
    ours = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, use_beta_sigmas=True)
    ours.set_timesteps(sigmas=np.linspace(1.0, 1 / 30, 30), mu=MU)
    ours.last_mu = MU
    cache = CacheConfig(window=Window.sigmas, start=0.2, end=0.8, max_consecutive_cache_hits=5)
    assert run(cache, measure_progress(ours, Window.sigmas, flow=True)) == spread((1, 5), 11, 17, (19, 30))


@pytest.mark.parametrize("denoise", [1.0, 0.6, 0.25])
def test_an_image_to_image_run_is_inside_where_its_noise_levels_are(denoise: float) -> None:
    """ComfyUI runs the last steps of a longer schedule: the window does not move with them."""
    steps = 20
    times = list_times("simple", int(steps / denoise))[-steps:]
    ours = FlowMatchEulerDiscreteScheduler(shift=3.0)
    ours.set_timesteps(sigmas=times)
    cache = CacheConfig(window=Window.sigmas, start=0.2, end=0.8)
    inside = [0.2 - 1e-9 < 1 - t < 0.8 + 1e-9 for t in times]
    on_an_end = [step for step, t in enumerate(times) if min(abs(t - 0.2), abs(t - 0.8)) < 1e-9]
    progress = measure_progress(ours, Window.sigmas, flow=True)
    assert progress == pytest.approx([1 - t for t in times], abs=1e-5)
    computed = {step + 1 for step, within in enumerate(inside) if step == 0 or not within}
    assert set(run(cache, progress)) - computed <= {step + 1 for step in on_an_end}, "float32 decides at the ends"
    assert computed <= set(run(cache, progress))


def test_sdxl_with_karras_spacing_is_inside_for_ten_steps() -> None:
    scheduler = EulerDiscreteScheduler(**SDXL, use_karras_sigmas=True)
    scheduler.set_timesteps(25)
    cache = CacheConfig(window=Window.sigmas, start=0.2, end=0.8)
    progress = measure_progress(scheduler, Window.sigmas, flow=False)
    assert run(cache, progress) == spread((1, 6), (17, 25))
    by_steps = CacheConfig(start=0.2, end=0.8)
    assert run(by_steps, [None] * 25) == spread((1, 5), (21, 25)), "fractions of the steps"


@pytest.mark.parametrize(
    ("spacing", "skipped"), [("linspace", spread((7, 16))), ("leading", spread((6, 16))), ("trailing", spread((9, 20)))]
)
def test_the_spacing_of_timesteps_moves_the_window_on_sdxl_with_karras_levels(spacing: str, skipped: list[int]) -> None:
    """As docs/caching.md has it; `leading`, with an offset of 1, is SDXL's own."""
    scheduler = EulerDiscreteScheduler(**SDXL, use_karras_sigmas=True, timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(25)
    cache = CacheConfig(window=Window.sigmas, start=0.2, end=0.8)
    computed = run(cache, measure_progress(scheduler, Window.sigmas, flow=False))
    assert [step for step in range(1, 26) if step not in computed] == skipped


def test_the_bounds_are_comfyui_s_percent_to_sigma_for_diffusion_models() -> None:
    """Between training timesteps, logarithms of noise levels are interpolated."""
    scheduler = EulerDiscreteScheduler(**SDXL, use_karras_sigmas=True)
    scheduler.set_timesteps(40)
    abars = scheduler.alphas_cumprod.double()
    table = (((1 - abars) / abars) ** 0.5).log()

    def percent_to_sigma(percent: float) -> float:
        t = (1 - percent) * 999.0
        low, part = int(t), t - int(t)
        return float(((1 - part) * table[low] + part * table[min(low + 1, 999)]).exp())

    progress = measure_progress(scheduler, Window.sigmas, flow=False)
    for percent in (0.1, 0.23, 0.5, 0.77):
        bound = percent_to_sigma(percent)
        assert [share >= percent for share in progress] == [sigma <= bound for sigma in scheduler.sigmas[:-1].tolist()]


@pytest.mark.parametrize(
    "scheduler",
    [
        FlowMatchEulerDiscreteScheduler(shift=3.0),
        UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
        DPMSolverMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0),
    ],
)
def test_every_flow_solver_s_shift_is_undone(scheduler: Any) -> None:
    scheduler.set_timesteps(12)
    progress = measure_progress(scheduler, Window.sigmas, flow=True)
    sigmas = scheduler.sigmas[:12].tolist()
    assert [3.0 * (1 - p) / (1 + 2.0 * (1 - p)) for p in progress] == pytest.approx(sigmas, abs=1e-5)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_a_window_over_timesteps_is_the_range_of_training_timesteps(spacing: str) -> None:
    scheduler = DDIMScheduler(**SDXL, timestep_spacing=spacing)
    scheduler.set_timesteps(20)
    progress = measure_progress(scheduler, Window.timesteps, flow=False)
    cache = CacheConfig(window=Window.timesteps, start=0.2, end=0.8)
    expected = [step + 1 for step, t in enumerate(scheduler.timesteps.tolist()) if step == 0 or not 200 <= t <= 800]
    assert run(cache, progress) == expected and 5 < len(expected) < 12


def test_a_sampler_without_training_timesteps_is_refused() -> None:
    scheduler = EDMEulerScheduler()
    scheduler.set_timesteps(10)
    with pytest.raises(RunError, match=r"cache\.window=timesteps: EDMEulerScheduler"):
        measure_progress(scheduler, Window.timesteps, flow=False)


@pytest.mark.parametrize(("include_end", "computed"), [(False, spread((1, 2), (9, 10))), (True, spread((1, 2), 10))])
def test_the_end_of_a_window_over_steps_is_inside_where_that_is_asked_for(
    include_end: bool, computed: list[int]
) -> None:
    """As ComfyUI-TeaCache has it: start_percent <= i / n <= end_percent."""
    cache = CacheConfig(start=0.2, end=0.8, include_end=include_end)
    assert run(cache, [None] * 10) == computed


@given(steps=st.integers(1, 100), start=st.floats(0, 0.99), rounding=st.sampled_from(Rounding))
def test_the_first_steps_are_as_many_as_the_rounding_says(steps: int, start: float, rounding: Rounding) -> None:
    """`nearest`: diffusers/hooks/mag_cache.py; `down`: MagCache's scripts for Wan, Qwen-Image and HunyuanVideo."""
    cache = CacheConfig(start=start, start_rounding=rounding)
    first = {
        Rounding.up: sum(step / steps < start for step in range(steps)),
        Rounding.nearest: int(start * steps + 0.5),
        Rounding.down: int(start * steps),
    }[rounding]
    assert list_computed_steps(cache, steps) == list(range(1, max(first, 1) + 1))
    assert count_first_steps(start, rounding, steps) == first


def test_a_step_whose_progress_is_not_known_counts_as_inside() -> None:
    cache = CacheConfig(window=Window.sigmas, start=0.2, end=0.8)
    assert is_inside_window(cache, StepInfo(step=1, steps=10, sigma=0.0))
