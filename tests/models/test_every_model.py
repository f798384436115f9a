"""Every shipped model option, tiny, in every task of its family: our stages against one call of diffusers' pipeline."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.models.shipped import MODELS, config_of
from tests.models.staged import run_stages
from tests.models.their_calls import AROUND, CALLS, DECODED_BY_HAND, NEGATIVE
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Dtype
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

SAMPLE = Sample(prompt="a red circle above a blue square", negative_prompt=NEGATIVE, seed=3)
STEPS = 2


@lru_cache(maxsize=1)
def tiny(name: str) -> tuple[Any, Any, Any]:
    """(family, config, pipe). One is cached, because the tasks of a model are tested in a row."""
    config = config_of(name)
    family = find_implementation("model", config)
    return family, config, load(family, config, "cpu")


def image(size: int, seed: int = 0) -> Image.Image:
    """Smooth colours, which survive the autoencoder better than noise."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((size, size), Image.Resampling.BICUBIC)


def mask(size: int) -> Image.Image:
    white = np.zeros((size, size), np.uint8)
    white[: size // 2] = 255
    return Image.fromarray(white)


def start_of(task: str, size: int) -> dict[str, Any]:
    """What a task starts from: an image, and for inpainting a mask."""
    start = {"image": image(size)} if task in ("image_to_image", "inpaint", "image_to_video") else {}
    return start | ({"mask": mask(size)} if task == "inpaint" else {})


def cases() -> list[tuple[str, str]]:
    """(model, task)."""
    return [(name, task) for name in MODELS for task in find_implementation("model", config_of(name)).tasks]


def call_diffusers(
    family: Any,
    config: Any,
    pipe: Any,
    task: str,
    given: dict[str, Any],
    prompt: str,
    seed: int,
    steps: int,
    latent: bool = False,
) -> Any:
    """Calls diffusers' own pipeline: uint8 pixels, or latents. given: sizes, images, strength."""
    called = get_task_pipeline(pipe, family, task)
    call = {**given, **CALLS[config.name](config, task)}
    call = {{"mask": "mask_image"}.get(key, key): value for key, value in call.items()}
    accepted = signature(called.__call__).parameters
    call = {key: value for key, value in call.items() if key in accepted or key not in ("width", "height", "strength")}
    if "negative_prompt" in call and "negative_prompt" not in accepted:  # FLUX.2-klein takes only its embeddings
        call["negative_prompt_embeds"] = called.encode_prompt(call.pop("negative_prompt"))[0]
    if config.name == "chroma" and isinstance(call.get("image"), torch.Tensor):
        # Missing in diffusers 0.42.1 (FLUX has it): without it, latents are resized like an image.
        called.image_processor.register_to_config(vae_latent_channels=16)
    call = {"generator": torch.Generator().manual_seed(seed), **call}
    by_hand = DECODED_BY_HAND.get((config.name, task))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # for a call without a generator
        kind = "latent" if by_hand or latent else "np"
        with AROUND.get(config.name, nullcontext)():
            output = called(prompt=prompt, num_inference_steps=steps, output_type=kind, **call)
    result = output.images if hasattr(output, "images") else output.frames
    if latent:
        return result
    expected = np.asarray(by_hand(called, result) if by_hand else result)
    return (expected * 255).round().astype("uint8")


@pytest.mark.parametrize(("name", "task"), cases())
def test_three_steps_are_the_pipeline_bit_for_bit(name: str, task: str) -> None:
    family, config, pipe = tiny(name)
    size = family.tiny_size
    wanted: dict[str, Any] = {"width": size, "height": size}
    if family.kind == "video":
        wanted["num_frames"] = family.tiny_frames
    start = start_of(task, size)
    if "strength" in signature(get_task_pipeline(pipe, family, task).__call__).parameters:
        start["strength"] = 0.6
    ours = run_stages(family, pipe, config, SAMPLE, task=task, steps=STEPS, **wanted, **start)

    expected = call_diffusers(family, config, pipe, task, {**wanted, **start}, SAMPLE.prompt, SAMPLE.seed, STEPS)

    assert ours.dtype == np.uint8 and ours.shape == expected.shape and ours.std() > 1
    assert np.array_equal(ours, expected)


@pytest.mark.parametrize("name", ["flux", "sdxl", "cogvideox_2b"])
def test_the_same_in_16_bits(name: str) -> None:
    config = replace(config_of(name), dtype=Dtype.bfloat16)
    family = find_implementation("model", config)
    pipe, task = load(family, config, "cpu"), next(iter(family.tasks))
    wanted: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size}
    if family.kind == "video":
        wanted["num_frames"] = family.tiny_frames
    ours = run_stages(family, pipe, config, SAMPLE, task=task, steps=STEPS, **wanted)
    assert np.array_equal(ours, call_diffusers(family, config, pipe, task, wanted, SAMPLE.prompt, SAMPLE.seed, STEPS))


@pytest.mark.parametrize("name", MODELS)
def test_the_adapters_of_a_family_are_those_that_diffusers_can_load(name: str) -> None:
    import diffusers

    family = find_implementation("model", config_of(name))
    kind = getattr(diffusers, next(iter(family.tasks.values())))
    methods = {"lora": "load_lora_weights", "textual_inversion": "load_textual_inversion"}
    assert family.adapters == tuple(name for name, method in methods.items() if hasattr(kind, method))
