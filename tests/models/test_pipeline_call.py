"""Calls of a pipeline."""

from __future__ import annotations

from inspect import signature
from math import exp
from types import SimpleNamespace
from typing import Any

import pytest

from wavespeed_runner.errors import RunError
from wavespeed_runner.models.pipeline_call import denoise, watch_steps
from wavespeed_runner.process.logging_setup import log_warnings


def test_a_size_that_the_sampler_overflows_at_is_named() -> None:
    family: Any = SimpleNamespace(prepare=None, run=lambda *given: exp(1e9), build_arguments=lambda *given: {})
    inputs: Any = SimpleNamespace(width=16384, height=16384, steps=1, generator=None)
    inputs.num_frames = inputs.image = inputs.mask = inputs.strength = None
    nothing: Any = None
    with pytest.raises(RunError, match=r"^width=16384 height=16384: the sampler .*math range error.* smaller one$"):
        denoise(family, nothing, nothing, {}, inputs)


def test_noise_levels_that_are_not_finite_are_refused_before_any_step() -> None:
    import diffusers

    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)
    with watch_steps(scheduler, None, lambda: None), log_warnings():
        scheduler.set_timesteps(4, mu=1.0)
        assert len(scheduler.sigmas) == 5
        with pytest.raises(OverflowError, match=r"^its timesteps are not finite$"):
            scheduler.set_timesteps(sigmas=[1.0, 0.5], mu=400.0)
        assert {"mu", "sigmas"} <= signature(scheduler.set_timesteps).parameters.keys()
