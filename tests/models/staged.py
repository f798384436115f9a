"""A family's three steps without stages, store or plan: what the tests of this folder hold against diffusers' call."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch

from wavespeed_runner.models.family import CallInputs, Family
from wavespeed_runner.models.pipeline_call import denoise, get_task_pipeline, watch_steps


def latents(
    family: Family,
    pipe: Any,
    model: Any,
    embeddings: dict[str, Any],
    *,
    seed: int = 3,
    on_step: Callable[[], None] = lambda: None,
    **wanted: Any,
) -> dict[str, Any]:
    """What `Family.read_outputs` gives. wanted: values of `CallInputs`; the rest is the model's own."""
    generator = torch.Generator().manual_seed(seed)
    own = {"task": next(iter(family.tasks)), "steps": model.steps, "guidance_scale": model.guidance_scale}
    size = {"width": model.width, "height": model.height, "num_frames": model.num_frames}
    call = CallInputs(generator=generator, **{**own, **size, **wanted})
    called = get_task_pipeline(pipe, family, call.task)
    with torch.inference_mode(), watch_steps(called.scheduler, generator, on_step):
        return denoise(family, called, model, embeddings, call)


def encoded(family: Family, pipe: Any, model: Any, sample: Any, guidance_scale: Any, image: Any = None) -> Any:
    """Embeddings. image: for families that read the prompt beside it."""
    seen = {"image": image} if "image" in signature(family.encode).parameters else {}
    with torch.inference_mode():
        return family.encode(pipe, model, sample, guidance_scale, **seen)


def staged(family: Family, pipe: Any, model: Any, sample: Any, **wanted: Any) -> Any:
    """The image or the video by encode, denoise and decode: uint8."""
    guidance_scale = wanted.get("guidance_scale", model.guidance_scale)
    with torch.inference_mode():
        embeddings = encoded(family, pipe, model, sample, guidance_scale, wanted.get("image"))
        made = latents(family, pipe, model, embeddings, seed=sample.seed, **wanted)
        size = {name: wanted.get(name, getattr(model, name)) for name in ("width", "height", "num_frames")}
        return family.decode(pipe, made, **size)
