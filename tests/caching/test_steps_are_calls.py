"""With samplers that call the denoiser twice a step, strategies count calls: noise levels, windows, calibrations."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.caching.loaded_models import CACHES, Model, share_model
from tests.conftest import run_as_data
from wavespeed_runner.caching.calibration.data import build_file_name, build_key
from wavespeed_runner.caching.calibration.file import save
from wavespeed_runner.caching.criteria.thresholds import RelativeChange
from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.registry import lookup
from wavespeed_runner.tuning.calibrate import calibrate


class StepObserver:
    """Keeps the step of every computed call."""

    def __init__(self) -> None:
        self.steps: list[StepInfo] = []

    def record_blocks(self, branch: str, call: Any, residual: Any) -> None:
        self.steps.append(call.at)

    def record_output(self, branch: str, output: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "sampler", "start", "count"),
    [
        ("demo", "heun", {}, 13),
        ("demo", "default", {}, 7),
        ("demo", "default", {"strength": 0.5}, 4),
        ("demo_unet", "heun", {}, 13),
        ("demo_unet", "heun", {"strength": 0.5}, 5),
    ],
)
def test_each_call_has_the_noise_level_that_the_denoiser_is_given(
    name: str, sampler: str, start: dict[str, Any], count: int
) -> None:
    """Against the timesteps that the denoiser is called with; samplers that call it twice a step count calls.

    Predictors extrapolate by these noise levels.
    """
    model = share_model(name)
    observer, times = StepObserver(), []

    def record_time(_: Any, args: Any, kwargs: Any) -> None:
        times.append(float((args[1] if len(args) > 1 else kwargs["timestep"]).flatten()[0]))

    handle = model.denoisers[0].register_forward_pre_hook(record_time, with_kwargs=True)
    try:
        never = replace(CACHES["signal"], criterion=RelativeChange(threshold=0.0))
        _, steps = model.run(never, observer=observer, steps=7, sampler=lookup("sampler", sampler).options(), **start)
    finally:
        handle.remove()
    assert len(steps) == len(times) == count
    assert [(at.step, at.steps) for at in observer.steps] == [(i, count) for i in range(count)]
    if name == "demo":
        levels = np.array(times)
    else:
        config = model.pipe.scheduler.config
        assert config.beta_schedule == "scaled_linear"
        ends = config.beta_start**0.5, config.beta_end**0.5
        alphas = np.cumprod(1 - np.linspace(*ends, config.num_train_timesteps) ** 2)
        levels = np.interp(times, np.arange(len(alphas)), np.sqrt((1 - alphas) / alphas))
    np.testing.assert_allclose([at.sigma for at in observer.steps], levels, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["demo", "demo_unet"])
def test_a_window_is_in_calls_where_a_sampler_makes_several_a_step(name: str) -> None:
    always = replace(CACHES["signal"], start=0.2, end=0.8, max_consecutive_cache_hits=-1)
    heun = lookup("sampler", "heun").options()
    latents, steps = share_model(name).run(always, steps=6, sampler=heun)
    calls = 2 * 6 - 1
    assert [step["computed"] for step in steps] == [i == 0 or not 0.2 <= i / calls < 0.8 for i in range(calls)]
    assert torch.equal(latents, Model(name).run(always, steps=6, sampler=heun)[0])


def test_a_fitted_predictor_of_a_sampler_that_calls_twice(planned: Any, tmp_path: Path) -> None:
    """Calibrated, planned and run in calls of the denoiser."""
    plain = planned("sampler=heun", "steps=4")
    calibration = calibrate(plain, build_key(plain.config))
    assert calibration.steps == 7
    save(calibration, tmp_path / "outputs" / "calibrations" / build_file_name(calibration.key))
    plan = planned("sampler=heun", "steps=4", "cache=planned", "cache.computed=3")
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    assert record["cache"]["computed_steps"] == plan.config.cache.criterion.schedule
    assert len(record["samples"][0]["steps"]) == 7 and record["cache"]["hits"] == 4
