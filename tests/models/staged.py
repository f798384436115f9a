"""Encode, denoise and decode of a family, without plan, store and graph; tests compare them with diffusers' call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from inspect import signature
from typing import Any

import torch

from wavespeed_runner.models.family import CallInputs, Family
from wavespeed_runner.models.pipeline_call import denoise, get_task_pipeline, watch_steps


def denoise_latents(
    family: Family,
    pipe: Any,
    model: Any,
    embeddings: dict[str, Any],
    *,
    seed: int = 3,
    on_step: Callable[[], None] = lambda: None,
    **inputs: Any,
) -> dict[str, Any]:
    """What `Family.read_outputs` gives. inputs: values of `CallInputs`; the rest is the model's defaults."""
    generator = torch.Generator().manual_seed(seed)
    defaults = {"task": next(iter(family.tasks)), "steps": model.steps, "guidance_scale": model.guidance_scale}
    size = {"width": model.width, "height": model.height, "num_frames": model.num_frames}
    call = CallInputs(generator=generator, **{**defaults, **size, **inputs})
    called = get_task_pipeline(pipe, family, call.task)
    with torch.inference_mode(), watch_steps(called.scheduler, generator, on_step):
        return denoise(family, called, model, embeddings, call)


def encode_prompt(family: Family, pipe: Any, model: Any, sample: Any, guidance_scale: Any, image: Any = None) -> Any:
    """Embeddings. image: for families that read the prompt together with an image."""
    start = {"image": image} if "image" in signature(family.encode).parameters else {}
    with torch.inference_mode():
        return family.encode(pipe, model, sample, guidance_scale, **start)


@contextmanager
def without_text_encoders(pipe: Any) -> Iterator[None]:
    """As on ranks other than 0, which encode no prompt; see `accelerate.parallel.lean`."""
    encoders = {name: part for name, part in pipe.components.items() if name.startswith("text_encoder")}
    for name in encoders:
        setattr(pipe, name, None)
    try:
        yield
    finally:
        pipe.register_modules(**encoders)  # also in its config, from which it is saved


def run_stages(family: Family, pipe: Any, model: Any, sample: Any, **inputs: Any) -> Any:
    """The image or the video by encode, denoise and decode: uint8."""
    guidance_scale = inputs.get("guidance_scale", model.guidance_scale)
    with torch.inference_mode():
        embeddings = encode_prompt(family, pipe, model, sample, guidance_scale, inputs.get("image"))
        with nullcontext() if family.single_call else without_text_encoders(pipe):
            tensors = denoise_latents(family, pipe, model, embeddings, seed=sample.seed, **inputs)
        size = {name: inputs.get(name, getattr(model, name)) for name in ("width", "height", "num_frames")}
        return family.decode(pipe, tensors, **size)
