"""The record of one image, from what its denoising stages left in their latents."""

from __future__ import annotations

from typing import Any

from wavespeed_runner.artifacts import Latents, Sample
from wavespeed_runner.execution.conclusion import _all_engaged
from wavespeed_runner.execution.sample_record import describe_sample
from wavespeed_runner.records.sample import SampleRecord


def described(engaged: dict[str, Any], *steps: dict[str, Any]) -> SampleRecord:
    data = {"seconds": [2.0, 1.0, 9.0], "first_call": None, "spread": 0.0, "steps": [*steps], "engaged": engaged}
    values = {"denoise": Latents(tensors={}, data=data), "decode": Latents(tensors={}, data={"size": {}})}
    return describe_sample(Sample(prompt="a red circle", seed=3), 0, values, None, [])


def test_evidence_of_a_plugins_stage_is_kept() -> None:
    quantized = {"bits": 4, "layers": ["a", "b"]}
    sample = described({"cache": None, "adapters": None, "memory": {"vae_tiling": True}, "quantized": quantized})
    (engaged,) = sample.engaged.values()
    assert engaged.plugins == {"quantized": quantized} and engaged.memory == {"vae_tiling": True}
    assert _all_engaged([sample]) == engaged


def test_a_signal_may_be_any_number() -> None:
    """Relative to a signal that is nearly zero, every change is huge."""
    step = {"index": 1, "computed": True, "signal": 1e20, "level": 1e300, "seconds": 0.5}
    sample = described({"cache": None}, {**step, "branches": {"cond": {"computed": True, "signal": 1e20, "level": 0}}})
    assert sample.steps[0].signal == 1e20 and sample.steps[0].level == 1e300 and sample.seconds == 2.0
    assert sample.steps[0].branches is not None and sample.steps[0].branches["cond"].level == 0.0
