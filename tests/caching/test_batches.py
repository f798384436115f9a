"""Images of a batch: each decides for itself, and none depends on what its neighbours decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.caching.generate import ALWAYS, fbcache
from tests.models.test_batches import SAMPLES, options_of
from tests.models.test_every_model import tiny
from wavespeed_runner.artifacts import Embeddings, Latents, Pipeline
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, PredictedChange
from wavespeed_runner.caching.predictors.taylor import Taylor
from wavespeed_runner.caching.signals.block_signals import FirstBlockOutput, ModelChange, ModulatedInput
from wavespeed_runner.config.schema import CacheConfig, GuidanceBranches
from wavespeed_runner.stages.denoise import denoise_batch

STEPS = 10


def build_inputs(name: str) -> tuple[Any, list[dict[str, Any]]]:
    """Options without a cache, and the denoise stage's inputs for three images."""
    family, config, pipe = tiny(name)
    pipeline = Pipeline(pipe=pipe, model=config, family=family, device="cpu")
    scale = config.guidance_scale
    inputs = [
        {
            "pipeline": pipeline,
            "sample": sample,
            "embeddings": Embeddings(tensors=family.encode(pipe, config, sample, scale)),
        }
        for sample in SAMPLES
    ]
    return replace(options_of(family, config, 1), steps=STEPS), inputs


def run(options: Any, cache: CacheConfig, size: int, inputs: list[dict[str, Any]]) -> list[Latents]:
    return denoise_batch(replace(options, cache=cache, batch_size=size), inputs)


def decisions(latents: Latents) -> list[bool]:
    return [step["computed"] for step in latents.data["steps"]]


def median_signal(options: Any, inputs: list[dict[str, Any]]) -> float:
    """A threshold that some steps stay below, at different steps for each image; no signal is equal to it."""
    results = run(options, fbcache(0.0), 1, inputs)
    signals = [step["signal"] for latents in results for step in latents.data["steps"] if step["signal"]]
    below, above = sorted(signals)[len(signals) // 2 - 1 :][:2]
    return (below + above) / 2


@pytest.mark.parametrize("name", ["demo", "sd35_medium", "sd15"])
def test_decisions_and_bits_do_not_depend_on_the_neighbours(name: str) -> None:
    options, inputs = build_inputs(name)
    cache = replace(fbcache(median_signal(options, inputs)), predictor=Taylor())
    alone = [run(options, cache, 2, [item])[0] for item in inputs]
    together = run(options, cache, 2, inputs)
    backwards = run(options, cache, 2, inputs[::-1])[::-1]
    by_image = [decisions(latents) for latents in together]
    assert by_image[0] != by_image[1], "all images decide alike, so the test shows nothing"
    assert any(False in computed for computed in by_image)
    for first, second, third in zip(alone, together, backwards, strict=True):
        assert decisions(first) == decisions(second) == decisions(third)
        assert torch.equal(first.tensors["latents"], second.tensors["latents"])
        assert torch.equal(second.tensors["latents"], third.tensors["latents"])


def test_a_batch_decides_as_its_images_would_alone() -> None:
    options, inputs = build_inputs("demo")
    cache = fbcache(median_signal(options, inputs))
    single = run(options, cache, 1, inputs)
    together = run(options, cache, 3, inputs)
    for first, second in zip(single, together, strict=True):
        for step, batched in zip(first.data["steps"], second.data["steps"], strict=True):
            assert batched["signal"] == (step["signal"] and pytest.approx(step["signal"], rel=1e-2))
        assert decisions(first) == decisions(second)
        assert torch.allclose(first.tensors["latents"], second.tensors["latents"], atol=1e-3, rtol=1e-3)


def test_the_share_counts_blocks_that_ran_for_a_neighbour() -> None:
    options, inputs = build_inputs("demo")
    cache = fbcache(median_signal(options, inputs))
    first, second = (latents.data["engaged"]["cache"] for latents in run(options, cache, 2, inputs[:2]))
    assert first["block_share"] == second["block_share"]
    always = run(options, fbcache(ALWAYS), 2, inputs[:2])[0].data["engaged"]["cache"]
    assert always["hits"] == STEPS - 1
    assert always["block_share"] < first["block_share"]


@pytest.mark.parametrize(
    "parts",
    [
        {"signal": FirstBlockOutput(), "criterion": AccumulatedChange(threshold=0.5)},
        {"signal": ModelChange(), "criterion": PredictedChange(threshold=0.5)},
    ],
    ids=["accumulated", "model"],
)
def test_every_kind_of_signal_keeps_images_apart(parts: dict[str, Any]) -> None:
    options, inputs = build_inputs("demo")
    cache = replace(fbcache(0.0), **parts)
    backwards = run(options, cache, 3, inputs[::-1])[::-1]
    for first, second in zip(run(options, cache, 3, inputs), backwards, strict=True):
        assert False in decisions(first)
        assert torch.equal(first.tensors["latents"], second.tensors["latents"])


@pytest.mark.parametrize("name", ["demo", "flux2", "sd35_medium", "chroma", "pixart_sigma", "lumina2"])
def test_the_modulated_input_of_a_batch_is_that_of_its_images(name: str) -> None:
    options, inputs = build_inputs(name)
    cache = replace(fbcache(0.0), signal=ModulatedInput(), criterion=AccumulatedChange(threshold=1e-9))
    single, together = run(options, cache, 1, inputs[:2]), run(options, cache, 2, inputs[:2])
    for first, second in zip(single, together, strict=True):
        signals = [[step["signal"] for step in latents.data["steps"][1:]] for latents in (first, second)]
        assert signals[1] == pytest.approx(signals[0], rel=2e-2), "more than bfloat16 rounds"


def test_the_first_guidance_branch_decides_for_the_other() -> None:
    options, inputs = build_inputs("wan21")
    threshold = median_signal(options, inputs)
    first = replace(fbcache(threshold), guidance_branches=GuidanceBranches.first)

    def branches(cache: CacheConfig) -> list[tuple[bool, ...]]:
        steps = run(options, cache, 1, inputs[:1])[0].data["steps"]
        return [tuple(branch["computed"] for branch in step["branches"].values()) for step in steps]

    assert any(cond != uncond for cond, uncond in branches(fbcache(threshold))), (
        "the branches decide alike, so the test shows nothing"
    )
    followed = branches(first)
    assert all(cond == uncond for cond, uncond in followed) and (False, False) in followed
