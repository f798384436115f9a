"""Quantization beside memory savers, caches and other tasks, on tiny models: it runs, or fails as the rules say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.quantized import quantize
from tests.accelerate.random_adapters import generate
from tests.conftest import run_as_data
from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate.memory import MemorySettings, Storage, apply_memory
from wavespeed_runner.accelerate.quant_options import QuantOptions
from wavespeed_runner.accelerate.shared_weights import copy_pipeline
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]


@pytest.fixture
def run(planned: Planned, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the tiny model with overrides and an empty store; returns the record."""

    def run_with(*overrides: str) -> dict[str, Any]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        record = run_as_data(planned(*overrides, outputs=str(folder)), folder / "run", [])
        assert record["status"] == "completed", record["error"]
        return record

    return run_with


@pytest.fixture(scope="module")
def resident() -> dict[str, list[str]]:
    """Scheme -> pixels of a run without offloading, once there is one."""
    return {}


def pixels(record: dict[str, Any]) -> list[str]:
    return [sample["pixels_sha256"] for sample in record["samples"]]


@pytest.mark.parametrize(
    "memory",
    [
        ["memory=model_offload"],
        ["memory=group_offload"],
        ["memory=group_offload", "memory.group_type=leaf_level"],
        ["memory=vae_slicing"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("scheme", ["int8_dq", "fp8_wo"])
def test_offloading_changes_no_pixel(
    run: Callable[..., dict[str, Any]], resident: dict[str, list[str]], scheme: str, memory: list[str]
) -> None:
    offloaded = run(f"quant={scheme}", *memory)
    assert offloaded["engaged"]["quant"]["components"]["transformer"]["swapped"]["layers"] > 40
    if scheme not in resident:
        resident[scheme] = pixels(run(f"quant={scheme}"))
    assert pixels(offloaded) == resident[scheme]


def test_a_cache_attaches_to_quantized_blocks(run: Callable[..., dict[str, Any]]) -> None:
    record = run("quant=int8_dq", "cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6", "measure=default")
    assert 0 < record["cache"]["hits"] < 6
    (engaged,) = record["samples"][0]["engaged"].values()
    assert engaged["quant"]["scheme"] == "int8_dq" and engaged["cache"]["hits"] == record["cache"]["hits"]
    assert "quant-threshold" in [verdict["rule"] for verdict in record["plan"]["verdicts"]]
    assert record["reference"]["kind"] == "run"


def test_quantized_products_count_as_much_as_others(run: Callable[..., dict[str, Any]]) -> None:
    def count(*overrides: str) -> tuple[int, int]:
        record = run("cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=4", "measure.warmup=1", *overrides)
        (engaged,) = record["samples"][0]["engaged"].values()
        return engaged["cache"]["block_flops"], engaged["cache"]["denoiser_flops"]

    plain = count()
    assert plain[0] > 1_000_000
    for scheme in ("int8_dq", "int8_wo", "fp8_wo"):
        assert count(f"quant={scheme}") == plain


def test_casting_after_quantization_fails() -> None:
    """Why the plan refuses both: diffusers would cast the scales of quantized weights as it casts weights."""
    pipe, _ = quantize("flux", QuantOptions(name="int8_wo"))
    with pytest.raises(Exception, match=r"(?i)int8|float8|dtype|cast"):
        apply_memory(pipe, MemorySettings(layerwise_casting=Storage.float8_e4m3fn), "cpu", torch.float32)
        generate("flux", pipe)


def test_the_plan_refuses_what_fails(planned: Planned) -> None:
    with pytest.raises(ConfigError, match=r"memory\.layerwise_casting: both decide"):
        planned("quant=int8_wo", "memory=layerwise_casting")
    with pytest.raises(ConfigError, match=r"fp8_dq has kernels for CUDA only; works here: quant=int8_dq"):
        planned("quant=fp8_dq")


def test_a_copy_around_quantized_weights_shares_them() -> None:
    pipe, _ = quantize("flux", QuantOptions(name="int8_dq"))
    twin = copy_pipeline(pipe)
    ours, theirs = (dict(p.transformer.named_parameters()) for p in (pipe, twin))
    assert all(ours[name] is theirs[name] for name in ours) and twin.transformer is not pipe.transformer
    assert torch.equal(generate("flux", twin), generate("flux", pipe))


def test_quantized_models_generate_close_to_the_originals() -> None:
    for name in ("flux", "demo_unet", "wan22"):
        exact = generate(name, copy.deepcopy(tiny(name)[2]))
        for scheme, bound in (("int8_wo", 0.05), ("int8_dq", 0.1), ("fp8_wo", 0.1)):
            actual = generate(name, quantize(name, QuantOptions(name=scheme))[0])
            assert 0 < (actual - exact).norm() / exact.norm() < bound, (name, scheme)
