"""Quantized, compiled, adapted and offloaded models on two ranks are exact to what each is in one process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.accelerate.parallel.forked import run_on_ranks
from tests.accelerate.parallel.staged_ranks import denoise_plan, plan_of

pytestmark = pytest.mark.slow
FLOAT32 = "model.dtype=float32"
LORA = "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"
EXACT = 5e-6  # as in test_families.py
CASES: dict[str, tuple[str, ...]] = {
    "quant": ("model=flux", "quant=int8_dq"),
    "backend": ("model=flux", "attention=math"),
    "backend of a processor that calls torch": ("model=sd35_medium", "attention=math"),
    "fused projections": ("model=flux", "accelerate=fuse_qkv"),
    "adapter": ("model=demo", "model.init=pretrained", "adapters=lora", LORA),
    "offload": ("model=flux", "memory=group_offload"),
    "casting": ("model=flux", "memory=layerwise_casting"),
    "batch and cache": ("model=flux", "batch_size=2", "num_images_per_prompt=2", "steps=6", "cache=fbcache"),
    "sampler of two calls a step": ("model=wan21", "sampler=heun"),
}


def run_both(folder: Path, *overrides: str, on_ranks: tuple[str, ...] = ()) -> list[tuple[float, Any]]:
    """For each rank of parallel=ulysses: the distance from one process, and the evidence. on_ranks: only for them."""
    expected = denoise_plan(plan_of(folder / "one", FLOAT32, *overrides)).tensors["latents"]

    def run() -> tuple[float, Any]:
        latents = denoise_plan(plan_of(folder / "two", FLOAT32, *overrides, *on_ranks, "parallel=ulysses"))
        return float((latents.tensors["latents"] - expected).norm() / expected.norm()), latents.data["engaged"]

    return run_on_ranks(2, run)


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_are_exact_to_one_process(tmp_path: Path, name: str) -> None:
    for error, engaged in run_both(tmp_path, *CASES[name]):
        assert error <= EXACT
        assert engaged["parallel"]["difference"]["alone"] <= EXACT
        assert engaged["parallel"]["difference"]["between ranks"] == 0.0
        assert sum(engaged["parallel"]["attention"]["divided"].values()) > 0


@pytest.mark.parametrize(("model", "backend"), [("flux", "aot_eager"), ("sd35_medium", "eager")])
def test_compiled_blocks_send_within_their_graphs(tmp_path: Path, model: str, backend: str) -> None:
    """Compared with one process that compiles nothing. `aot_eager` traces into the messages, `eager` around them."""
    compiled = ("compile=regional", f"compile.backend={backend}")
    for error, engaged in run_both(tmp_path, f"model={model}", on_ranks=compiled):
        assert error <= EXACT
        assert engaged["compile"]["graph_breaks"] == 0 and engaged["compile"]["graphs"] > 0
        assert engaged["parallel"]["messages"]["all_to_all"]["calls_per_step"] > 0, "counted by compiled code too"
