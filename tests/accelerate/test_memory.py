"""Memory savers on the tiny model: lossless ones keep every pixel, and each leaves evidence that it took effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import run_as_data
from wavespeed_runner.accelerate.memory import MemorySettings, apply_memory
from wavespeed_runner.errors import RunError
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.storage.store import Store

Planned = Callable[..., Plan]


@pytest.fixture
def run(planned: Planned, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the tiny model with overrides and an empty store; returns the record."""

    def run_with(*overrides: str) -> dict[str, Any]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        plan = planned(*overrides, outputs=str(folder))
        assert plan.store.root == Store(folder / "store").root
        record = run_as_data(plan, folder / "run", [])
        assert record["status"] == "completed", record["error"]
        return record

    return run_with


def pixel_hashes(record: dict[str, Any]) -> list[str]:
    return [sample["pixels_sha256"] for sample in record["samples"]]


def test_no_memory_savers_leave_no_evidence(run: Callable[..., dict[str, Any]]) -> None:
    assert run()["engaged"]["memory"] is None


@pytest.mark.parametrize(
    ("overrides", "engaged"),
    [
        (["memory=model_offload"], {"model_offload": ["text_encoder", "text_encoder_2", "transformer", "vae"]}),
        (["memory=group_offload"], {"group_offload": ["text_encoder", "text_encoder_2", "transformer", "vae"]}),
        (
            ["memory=group_offload", "memory.group_type=leaf_level"],
            {"group_offload": ["text_encoder", "text_encoder_2", "transformer", "vae"]},
        ),
    ],
)
@pytest.mark.parametrize("cache", ["none", "fbcache"])
def test_offloading_changes_no_pixel(
    run: Callable[..., dict[str, Any]], overrides: list[str], engaged: dict[str, Any], cache: str
) -> None:
    cache_overrides = ["cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6"] if cache == "fbcache" else []
    record = run(*overrides, *cache_overrides)
    assert record["engaged"]["memory"] == engaged
    assert pixel_hashes(record) == pixel_hashes(run(*cache_overrides))
    if cache_overrides:
        assert 0 < record["cache"]["hits"] < 6


def test_offloading_works_for_graphs_that_start_from_an_image(run: Callable[..., dict[str, Any]]) -> None:
    graph = ["graph=image_to_image", "strength=0.5"]
    assert pixel_hashes(run("memory=model_offload", *graph)) == pixel_hashes(run(*graph))


def test_casting_is_lossy_and_compared_with_the_uncast_model(run: Callable[..., dict[str, Any]]) -> None:
    record = run("memory=layerwise_casting", "measure=default", "measure.warmup=0")
    assert record["engaged"]["memory"]["layerwise_casting"]["transformer"] > 10_000
    assert record["reference"]["kind"] == "run"
    assert 0 < record["samples"][0]["quality"]["mae"] < 30
    assert [stage["of"] for stage in record["stages"] if stage["name"] == "load"] == ["reference", "run"]


def test_tiled_decoding_differs_but_little(planned: Planned, tmp_path: Path) -> None:
    from wavespeed_runner.models.weights.pretrained import load
    from wavespeed_runner.registry import find_implementation

    model = planned().config.model
    family = find_implementation("model", model)
    pipe = load(family, model, "cpu")
    latents = torch.randn(1, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = pipe.vae.decode(latents, return_dict=False)[0]
        apply_memory(pipe, MemorySettings(vae_tiling=True), "cpu", torch.float32)
        pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 128, 16
        tiled = pipe.vae.decode(latents, return_dict=False)[0]
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
    assert torch.nn.functional.cosine_similarity(tiled.flatten(), whole.flatten(), dim=0) > 0.9


def test_tiling_and_slicing_are_switched_on_in_the_vae(run: Callable[..., dict[str, Any]]) -> None:
    engaged = run("memory=vae_tiling", "memory.vae_slicing=true")["engaged"]["memory"]
    assert engaged == {"vae_tiling": True, "vae_slicing": True}


def test_a_vae_without_tiling_is_refused() -> None:
    class Pipe:
        vae = torch.nn.Identity()

    with pytest.raises(RunError, match=r"memory\.vae_tiling=true: Identity cannot do it"):
        apply_memory(Pipe(), MemorySettings(vae_tiling=True), "cpu", torch.float32)
