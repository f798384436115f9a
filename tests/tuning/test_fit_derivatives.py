"""Derivatives through a cached generation, on every kind of denoiser: against what moving a weight changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tuning.students import with_student
from wavespeed_runner.registry import find_implementation
from wavespeed_runner.tuning import fit_memory
from wavespeed_runner.tuning.checkpointing import count_inputs, list_blocks
from wavespeed_runner.tuning.fit_cache import Weights, build_cache
from wavespeed_runner.tuning.student import Student

STEPS = 5
SCHEDULE = (0, 1, 3)
KINDS = {
    "one stack": ("model=flux", "width=32", "height=32"),
    "guidance in one batch": ("model=sd35_medium", "width=64", "height=64"),
    "a call a guidance branch": ("model=wan21",),
    "U-Net": ("model=sd15", "sampler=ddim", "width=64", "height=64"),
}


def start() -> Weights:
    values = torch.tensor([0.1, 0.8, -0.2, 0.3, 0.9], dtype=torch.float64)
    return Weights(schedule=SCHEDULE, steps=STEPS, values=values)


def generate(student: Student, weights: Weights, **options: bool) -> torch.Tensor:
    full = find_implementation("sampler", student.options.sampler)(student.pipeline.pipe, student.options.sampler)
    return student.generate(full, STEPS, [0, 1], cache=build_cache(weights), **options).result.double()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_what_moving_a_weight_changes(kind: str, tmp_path: Path) -> None:
    """With activations kept, and with those of blocks computed again; neither changes what is generated."""
    overrides = [*KINDS[kind], "model.init=tiny", "model.dtype=float32", f"steps={STEPS}", "prompt=x"]
    overrides += ["num_images_per_prompt=2", "device=cpu"]

    def work(student: Student) -> dict[str, Any]:
        weights = start()
        values = weights.values.clone().requires_grad_()
        result = generate(student, weights.put([values]), gradients=True)
        direction = torch.randn(result.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        (result * direction).sum().backward()
        moved = []
        for i in range(len(values)):
            ends = []
            for move in (1e-2, -1e-2):
                other = weights.values.clone()
                other[i] += move
                ends.append((generate(student, weights.put([other])) * direction).sum())
            moved.append((ends[0] - ends[1]) / 2e-2)
        return {"plain": generate(student, weights), "result": result.detach(), "by": values.grad, "moved": moved}

    found = [with_student(overrides, tmp_path, work, checkpointing=checkpointing) for checkpointing in (True, False)]
    for one in found:
        assert torch.allclose(one["plain"], one["result"], atol=1e-4)
        expected = torch.stack(one["moved"])
        assert torch.allclose(one["by"], expected, rtol=2e-2, atol=2e-2 * float(expected.abs().max()))
    assert torch.allclose(found[0]["by"], found[1]["by"], rtol=1e-4)


def test_what_goes_into_blocks_is_counted_by_its_shape(tmp_path: Path) -> None:
    """FLUX: image and prompt tokens into each block; timestep embedding and rotary tables are shared by all of them."""

    def work(student: Student) -> tuple[list[int], int]:
        (denoiser,) = student.denoisers
        full = find_implementation("sampler", student.options.sampler)(student.pipeline.pipe, student.options.sampler)
        with count_inputs([denoiser], student.pipeline.family.blocks) as counted:
            student.generate(full, STEPS, [0])
        config: Any = denoiser.config
        width, head = config.num_attention_heads * config.attention_head_dim, config.attention_head_dim
        tokens, text = (32 // 16) ** 2, student.requests[0].embeddings["prompt_embeds"].shape[1]
        blocks = list_blocks(denoiser, student.pipeline.family.blocks)
        assert len(blocks) == config.num_layers + config.num_single_layers
        return counted, 4 * (len(blocks) * (tokens + text) * width + width + 2 * (tokens + text) * head)

    overrides = [
        "model=flux",
        "model.init=tiny",
        "model.dtype=float32",
        "width=32",
        "height=32",
        f"steps={STEPS}",
        "prompt=x",
        "device=cpu",
    ]
    counted, expected = with_student(overrides, tmp_path, work)
    assert sum(counted) == STEPS * expected


def test_as_many_images_are_differentiated_at_once_as_fit_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(student: Student) -> list[tuple[int, str]]:
        inputs, largest = fit_memory.measure_block_inputs(student)
        size = 3 * inputs + 2 * 3 * 2 * largest
        chosen = []
        for free in (None, 100 * size, 2.5 * size, size / 2):
            monkeypatch.setattr(fit_memory, "find_free_memory", lambda device, free=free: free)
            chosen.append(fit_memory.choose_together(student, 3, skipped=2))
        return chosen

    overrides = ["model=flux", "model.init=tiny", "width=32", "height=32", f"steps={STEPS}", "prompt=x", "device=cpu"]
    chosen = with_student(overrides, tmp_path, work)
    assert [together for together, _ in chosen] == [8, 8, 2, 1]
    assert ["take fewer evaluations, or gradients=false" in line for _, line in chosen] == [False, False, False, True]
    (unknown,) = with_student(overrides, tmp_path, lambda s: [fit_memory.choose_together(s, 3)], checkpointing=False)
    assert unknown[0] == 8 and "all activations" in unknown[1]
