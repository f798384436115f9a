"""Calls of a pipeline."""

from __future__ import annotations

from inspect import signature
from math import exp
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wavespeed_runner.errors import RunError
from wavespeed_runner.models.pipeline_call import denoise, explain_not_finite, to_uint8_images, watch_steps
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_image_of_no_numbers_is_not_answered_with_the_format_it_was_computed_in(dtype: torch.dtype) -> None:
    vae = SimpleNamespace(dtype=dtype)
    processor = SimpleNamespace(postprocess=lambda values, **_: values.numpy())
    pipe: Any = SimpleNamespace(vae=vae, image_processor=processor)
    says = "a checkpoint or a setting is broken" if dtype is torch.float32 else "try model.dtype=float32"
    with pytest.raises(RunError, match=rf"the decoded image is not finite .*, {says}$"):
        to_uint8_images(pipe, torch.full((1, 2, 2, 3), torch.nan))


def test_adapters_are_named_where_numbers_are_not_finite() -> None:
    assert "adapters" not in explain_not_finite(True, None)
    told = explain_not_finite(False, {"lora": [1.0]})
    assert told.startswith("try model.dtype=float32, or the adapters are too strong")
