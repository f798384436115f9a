"""The estimate of memory against what torch's profiler sees of the real run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from wavespeed_runner.accelerate.quant import count_bytes
from wavespeed_runner.accelerate.quant_sizes import count_quantized_bytes
from wavespeed_runner.config.denoise_options import DenoiseOptions
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution.estimate import StageEstimate, estimate_memory
from wavespeed_runner.models.weights.size import count_component_bytes
from wavespeed_runner.planning.graph import SOURCE
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.process.torchao_import import import_torchao

CUDA = ("device=cuda", "model.dtype=bfloat16", "dry_run=true", "prompt=a red circle")
RUNS = (
    ("cache=fbcache", "steps=6"),
    ("model.init=pretrained", "quant=int8_wo", "steps=3", "width=64", "height=64"),
    ("cache=taylorseer", "steps=12", "batch_size=2", "num_images_per_prompt=2"),
    ("model=demo_unet", "cache=deepcache", "steps=6"),
    ("model=wan21", "model.init=tiny", "steps=2", "graph=text_to_video"),
    ("model=sdxl", "model.init=tiny", "steps=2", "model.dtype=bfloat16"),
    (
        "model=sdxl",
        "model.init=tiny",
        "steps=2",
        "strength=0.9",
        "width=64",
        "height=64",
        "graph=image_to_image",
        "image=IMAGE",
    ),
)


def measure(plan: Plan) -> dict[str, int]:
    """Node -> bytes of weights and of what torch allocates, at the peak of the real run."""
    from torch.profiler import ProfilerActivity, profile

    values: dict[str, Any] = {SOURCE: plan.samples[0]}
    peaks: dict[str, int] = {}
    weights = 0
    for name, node in plan.graph.nodes.items():
        inputs = {key: values[source] for key, source in node.inputs.items()}
        options = node.options
        if isinstance(options, DenoiseOptions):
            options = replace(options, warmup=0, repeats=1)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            values[name] = node.stage.function(options, **inputs)
        if node.stage.name == "load":
            weights = sum(count_component_bytes(values[name].pipe).values())
        else:
            peaks[name] = weights + find_peak(profiler)
    return peaks


def find_peak(profiler: Any) -> int:
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_within_a_tenth_of_what_is_measured(
    planned: Callable[..., Plan], overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("RGB", (64, 64), "red").save(tmp_path / "in.png")
    # Which kernels run is seen by a profiler of its own, and torch has one at a time.
    monkeypatch.setattr("wavespeed_runner.stages.denoise.needs_kernels", lambda engaged: False)
    given = [override.replace("IMAGE", str(tmp_path / "in.png")) for override in overrides]
    plan = planned(*given, "prompt=a red circle")
    estimate = estimate_memory(plan)
    measured = {name: size for name, size in measure(plan).items() if name != "image"}  # which calls no component
    stages: dict[str, StageEstimate] = {stage.name: stage for stage in estimate.stages}
    assert stages.keys() == measured.keys()
    assert {name: stage.total for name, stage in stages.items()} == pytest.approx(measured, rel=0.1)
    assert estimate.peak.total == max(stage.total for stage in stages.values())


@pytest.mark.parametrize(("scheme", "granularity"), [("fp8_dq", "PerTensor"), ("fp8_dq_row", "PerRow")])
def test_weights_for_other_devices_have_the_size_that_torchao_gives_them(scheme: str, granularity: str) -> None:
    import torch

    import_torchao()
    import torchao.quantization as quantization

    tensor_class = quantization.Float8Tensor
    weight = tensor_class.from_hp(torch.randn(64, 32), granularity=getattr(quantization, granularity)())
    assert count_quantized_bytes(scheme, 64, 32, 4) == count_bytes(weight)


def test_four_bits_have_scales_and_zero_points_for_groups() -> None:
    assert count_quantized_bytes("int4_wo", 256, 512, 2) == 256 * 512 // 2 + 2 * (2 * 256 * 512 // 128)


@pytest.mark.slow
def test_what_only_a_gpu_can_compute_is_estimated_anywhere(planned: Callable[..., Plan]) -> None:
    """With 8-bit floats as with 8-bit integers, whose weights have the same size."""
    plain, floats, integers, rows = (
        estimate_memory(planned("model=demo", *CUDA, f"quant={scheme}"))
        for scheme in ("none", "fp8_dq", "int8_wo", "fp8_dq_row")
    )
    assert floats.components["transformer"] < 0.8 * plain.components["transformer"]
    for other in (floats, rows):
        assert other.components == pytest.approx(integers.components, rel=0.05)
        assert other.peak.total == pytest.approx(integers.peak.total, rel=0.1)


@pytest.mark.parametrize(
    "overrides", [("model=flux2",), ("model=ltx2", "graph=text_to_video", "width=128", "height=128")], ids=" ".join
)
def test_models_whose_pipelines_compute_with_their_statistics_and_make_calls_of_several_sizes(
    planned: Callable[..., Plan], overrides: tuple[str, ...]
) -> None:
    estimate = estimate_memory(planned(*overrides, "steps=4", "prompt=x"))
    assert [stage.name for stage in estimate.stages] == ["encode", "denoise", "decode"]


def test_a_model_whose_numbers_decide_on_a_branch_is_refused_by_name(
    planned: Callable[..., Plan], tmp_path: Path
) -> None:
    Image.new("RGB", (128, 128), "red").save(tmp_path / "in.png")
    size = ("width=64", "height=64", f"image={tmp_path / 'in.png'}")
    plan = planned("model=hunyuan_video15_i2v", "graph=image_to_video", "steps=2", *size)
    with pytest.raises(RunError, match="stage 'denoise': this model's code cannot be followed on shapes alone"):
        estimate_memory(plan)
