"""Calls of a pipeline."""

from __future__ import annotations

from math import exp
from types import SimpleNamespace
from typing import Any

import pytest

from wavespeed_runner.errors import RunError
from wavespeed_runner.models.pipeline_call import denoise


def test_a_size_that_the_sampler_overflows_at_is_named() -> None:
    family: Any = SimpleNamespace(prepare=None, run=lambda *given: exp(1e9), build_arguments=lambda *given: {})
    inputs: Any = SimpleNamespace(width=16384, height=16384, steps=1, generator=None)
    inputs.num_frames = inputs.image = inputs.mask = inputs.strength = None
    nothing: Any = None
    with pytest.raises(RunError, match=r"^width=16384 height=16384: the sampler .*math range error.* smaller one$"):
        denoise(family, nothing, nothing, {}, inputs)
