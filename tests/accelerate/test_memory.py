"""Memory settings on the tiny model: the same images where nothing is lossy, and evidence that each took effect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from wavespeed_runner.accelerate.memory import MemorySettings, apply_memory
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution.runner import run_plan
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.storage.store import Store

Planned = Callable[..., Plan]


@pytest.fixture
def ran(planned: Planned, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Record of a run with these overrides, with a store of its own."""

    def run(*overrides: str) -> dict[str, Any]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        plan = planned(*overrides, outputs=str(folder))
        assert plan.store.root == Store(folder / "store").root
        record = run_plan(plan, folder / "run", [])
        assert record["status"] == "completed", record["error"]
        return record

    return run


def pixels(record: dict[str, Any]) -> list[str]:
    return [sample["pixels_sha256"] for sample in record["samples"]]


def test_nothing_asked_for_is_nothing_engaged(ran: Callable[..., dict[str, Any]]) -> None:
    assert ran()["engaged"]["memory"] is None


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
    ran: Callable[..., dict[str, Any]], overrides: list[str], engaged: dict[str, Any], cache: str
) -> None:
    more = ["cache=fbcache", "cache.residual_diff_threshold=0.65", "steps=6"] if cache == "fbcache" else []
    record = ran(*overrides, *more)
    assert record["engaged"]["memory"] == engaged
    assert pixels(record) == pixels(ran(*more))
    if more:
        assert 0 < record["cache"]["hits"] < 6


def test_offloading_holds_for_graphs_that_start_from_a_image(ran: Callable[..., dict[str, Any]]) -> None:
    graph = ["graph=image_to_image", "strength=0.5"]
    assert pixels(ran("memory=model_offload", *graph)) == pixels(ran(*graph))


def test_casting_is_lossy_and_compared_with_the_model_as_it_is(ran: Callable[..., dict[str, Any]]) -> None:
    record = ran("memory=layerwise_casting", "measure=default", "measure.warmup=0")
    assert record["engaged"]["memory"]["layerwise_casting"]["transformer"] > 10_000
    assert record["reference"]["kind"] == "run"
    assert 0 < record["samples"][0]["quality"]["mae"] < 30
    assert [stage["of"] for stage in record["stages"] if stage["name"] == "load"] == ["reference", "run"]


def test_tiles_are_decoded_and_differ_at_their_seams_alone(planned: Planned, tmp_path: Path) -> None:
    from wavespeed_runner.models.weights.pretrained import load
    from wavespeed_runner.registry import implementation_of

    model = planned().config.model
    family = implementation_of("model", model)
    pipe = load(family, model, "cpu")
    latents = torch.randn(1, 16, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = pipe.vae.decode(latents, return_dict=False)[0]
        apply_memory(pipe, MemorySettings(vae_tiling=True), "cpu", torch.float32)
        pipe.vae.tile_sample_min_size, pipe.vae.tile_latent_min_size = 128, 16
        tiled = pipe.vae.decode(latents, return_dict=False)[0]
    assert tiled.shape == whole.shape and not torch.equal(tiled, whole)
    assert torch.nn.functional.cosine_similarity(tiled.flatten(), whole.flatten(), dim=0) > 0.9


def test_tiling_and_slicing_are_seen_on_the_vae(ran: Callable[..., dict[str, Any]]) -> None:
    engaged = ran("memory=vae_tiling", "memory.vae_slicing=true")["engaged"]["memory"]
    assert engaged == {"vae_tiling": True, "vae_slicing": True}


def test_a_vae_that_cannot_tile_says_so() -> None:
    class Pipe:
        vae = torch.nn.Identity()

    with pytest.raises(RunError, match=r"memory\.vae_tiling=true: Identity cannot do it"):
        apply_memory(Pipe(), MemorySettings(vae_tiling=True), "cpu", torch.float32)
