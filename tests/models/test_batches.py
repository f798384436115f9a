"""Batches: the latents of an image do not depend on the other images of its batch, in every family that has batches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests.models.shipped import list_variants
from tests.models.staged import encode_prompt
from tests.models.test_every_model import config_of, image, mask, tiny
from wavespeed_runner.artifacts import Embeddings, Images, Pipeline, Sample
from wavespeed_runner.caching.strategies import NoCache
from wavespeed_runner.registry import find_implementation, lookup
from wavespeed_runner.stages.denoise import DenoiseOptions, denoise_batch

BATCHED = [name for name in list_variants() if find_implementation("model", config_of(name)).supports_batches]
WITH_EXPERTS = ("hidream", "hidream_dev")
"""An expert multiplies the tokens of all images that chose it as one matrix, and what a row of it rounds to depends, on
some processors, on its place there."""
SAMPLES = [
    Sample(prompt="a red circle above a blue square", negative_prompt="dark", seed=1),
    Sample(prompt="a photo of a large yellow triangle", negative_prompt="bright", seed=2),
    Sample(prompt="a green square", negative_prompt="", seed=3),
]


PARTS: dict[str, Any] = {
    "text_to_image": {},
    "text_to_video": {},
    "image_to_image": {"image": image},
    "inpaint": {"image": image, "mask": lambda size, seed: mask(size)},
}
"""Task -> what each image starts from, of a size and a seed."""


def as_images(value: Any) -> Images:
    return Images(tensors={"images": np.asarray(value.convert("RGB"))[None]})


def options_of(family: Any, config: Any, batch_size: int) -> DenoiseOptions:
    return DenoiseOptions(
        steps=2,
        guidance_scale=config.guidance_scale,
        width=family.tiny_size,
        height=family.tiny_size,
        num_frames=family.tiny_frames if family.kind == "video" else None,
        strength=0.6,
        sampler=lookup("sampler", "default").options(),
        cache=NoCache(),
        batch_size=batch_size,
        warmup=0,
        repeats=1,
    )


@pytest.mark.parametrize("name", BATCHED)
def test_latents_do_not_depend_on_the_neighbours(name: str) -> None:
    family, config, pipe = tiny(name)
    task = next(iter(family.tasks))
    if task not in PARTS:
        pytest.skip("a video from an image")
    pipeline = Pipeline(pipe=pipe, model=config, family=family, device="cpu")
    inputs = []
    for sample in SAMPLES:
        start = {part: value(family.tiny_size, sample.seed) for part, value in PARTS[task].items()}
        encoded = encode_prompt(family, pipe, config, sample, config.guidance_scale, start.get("image"))
        given = {part: as_images(value) for part, value in start.items()}
        inputs.append({"pipeline": pipeline, "sample": sample, "embeddings": Embeddings(tensors=encoded), **given})

    def denoise(batch_size: int, chosen: list[dict[str, Any]]) -> list[torch.Tensor]:
        batch = denoise_batch(options_of(family, config, batch_size), chosen)
        return [latents.tensors["latents"] for latents in batch]

    single = [denoise(1, [item])[0] for item in inputs]
    together = denoise(2, inputs)
    backwards = denoise(2, inputs[::-1])[::-1]
    for item, two, three, alone in zip(inputs, together, backwards, single, strict=True):
        assert two.shape == alone.shape
        for other, why in ((three, "position and neighbour"), (denoise(2, [item])[0], "a missing neighbour")):
            if name in WITH_EXPERTS:
                assert torch.allclose(two, other, atol=1e-4, rtol=1e-4), why
            else:
                assert torch.equal(two, other), f"{why} do not matter"
        assert torch.allclose(two, alone, atol=2e-3, rtol=1e-3), "a batch equals single images up to rounding"
    assert not torch.allclose(together[0], together[1], atol=1e-2)


def test_embeddings_of_other_lengths_are_denoised_separately() -> None:
    """Embeddings of other shapes form a batch of their own."""
    family, config, pipe = tiny("demo")
    pipeline = Pipeline(pipe=pipe, model=config, family=family, device="cpu")
    short = replace(config, max_sequence_length=12)
    with torch.inference_mode():
        inputs = [
            {
                "pipeline": pipeline,
                "sample": sample,
                "embeddings": Embeddings(tensors=family.encode(pipe, model, sample, None)),
            }
            for sample, model in zip(SAMPLES, (config, short, config), strict=True)
        ]
    options = options_of(family, config, 2)
    batch = denoise_batch(options, inputs)
    for item, latents in zip(inputs, batch, strict=True):
        assert torch.equal(latents.tensors["latents"], denoise_batch(options, [item])[0].tensors["latents"])
