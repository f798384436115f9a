"""The demo model on a CUDA device: every kernel, number format, compile mode and kind of offloading it can have there.

What decides is the record: the run completed, the evidence names what ran, and the image is close to that of the same
model without the setting. Nothing is skipped because the plan refuses it, but where a package is missing.

    python -m pytest tests -m gpu
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import run_as_data
from wavespeed_runner.planning.plan import build_plan

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
DEMO = ("model=demo", "model.init=pretrained", "device=cuda", "width=128", "height=128", "steps=12")
HALF = ("model.dtype=bfloat16",)


@pytest.fixture
def run(composed: Callable[..., dict[str, Any]], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    def call(*overrides: str) -> dict[str, Any]:
        config = composed(*DEMO, "measure=default", *overrides)
        plan = build_plan({**config, "outputs": str(tmp_path / "outputs")})
        record = run_as_data(plan, tmp_path / f"run{len(list(tmp_path.iterdir()))}", list(overrides))
        assert record["status"] == "completed", record["error"]
        return record

    return call


def ssim(record: dict[str, Any]) -> float:
    return float(record["samples"][0]["quality"]["ssim"])


def test_two_runs_have_the_same_bits(run: Callable[..., dict[str, Any]]) -> None:
    first, second = (run(*HALF, "rerun=true")["samples"][0]["pixels_sha256"] for _ in range(2))
    assert first == second


@pytest.mark.parametrize("backend", ["native", "cudnn", "efficient", "flash_native", "math"])
def test_attention(run: Callable[..., dict[str, Any]], backend: str) -> None:
    record = run(*HALF, f"attention={backend}")
    assert record["engaged"]["attention"] and ssim(record) > 0.98


def test_flex_attention_is_compiled(run: Callable[..., dict[str, Any]]) -> None:
    record = run(*HALF, "attention=flex", "compile=regional")
    assert ssim(record) > 0.98 and record["engaged"]["compile"]["graph_breaks"] == 0


@pytest.mark.parametrize("compiled", ["none", "regional"])
@pytest.mark.parametrize("scheme", ["fp8_dq", "fp8_dq_row", "fp8_wo", "int8_dq", "int8_wo"])
def test_quantization(run: Callable[..., dict[str, Any]], scheme: str, compiled: str) -> None:
    if scheme.startswith("fp8") and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no 8-bit floats")
    record = run(*HALF, f"quant={scheme}", f"compile={compiled}")
    evidence = record["engaged"]["quant"]
    assert evidence["components"]["transformer"]["swapped"]["layers"] and evidence["kernels"] and ssim(record) > 0.9


@pytest.mark.parametrize("mode", ["regional", "default", "reduce_overhead", "max_autotune_no_cudagraphs"])
def test_compilation(run: Callable[..., dict[str, Any]], mode: str) -> None:
    record = run(*HALF, f"compile={mode}")
    evidence = record["engaged"]["compile"]
    assert evidence["graphs"] > 0 and evidence["graph_breaks"] == 0 and ssim(record) > 0.98
    assert "void" not in record["timing"]


@pytest.mark.parametrize(
    "memory",
    [
        ("model_offload",),
        ("group_offload",),
        ("group_offload", "memory.use_stream=true"),
        ("group_offload", "memory.group_type=leaf_level"),
        ("group_offload", "memory.group_type=leaf_level", "memory.use_stream=true"),
        ("layerwise_casting",),
    ],
)
def test_memory(run: Callable[..., dict[str, Any]], memory: tuple[str, ...]) -> None:
    record = run(*HALF, f"memory={memory[0]}", *memory[1:])
    assert record["engaged"]["memory"] and ssim(record) > 0.9


@pytest.mark.parametrize(
    ("switch", "more"),
    [
        ("tf32", ("model.dtype=float32",)),
        ("fp16_accumulation", ("model.dtype=float16",)),
        ("fuse_qkv", HALF),
    ],
)
def test_switches(run: Callable[..., dict[str, Any]], switch: str, more: tuple[str, ...]) -> None:
    record = run(*more, f"accelerate={switch}")
    assert record["engaged"]["accelerate"] and ssim(record) > 0.9


@pytest.mark.parametrize("cache", ["fbcache", "teacache", "taylorseer", "planned", "magcache"])
def test_caches_and_everything_at_once(run: Callable[..., dict[str, Any]], cache: str) -> None:
    calibrated = (*HALF, f"cache={cache}", "width=64", "height=64", "steps=28", "guidance_scale=1")
    plain = run(*calibrated)
    fast = run(*calibrated, "compile=regional", "quant=fp8_dq_row", "attention=cudnn")
    for record in (plain, fast):
        assert record["engaged"]["cache"]["hits"] > 0 and ssim(record) > 0.7
