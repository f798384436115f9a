"""A shipped model, shrunk and with random weights, and one prompt; strategies attached to its denoiser act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch

from tests.models.shipped import config_of
from tests.models.staged import denoise_latents, encode_prompt
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Dtype
from wavespeed_runner.models.pipeline_call import get_task_pipeline
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

SAMPLE = Sample(prompt="a red circle above a blue square", negative_prompt="dark", seed=3)


class Shrunk:
    """A shrunk model in float32. guided: with the model's own guidance_scale, or without guidance."""

    def __init__(self, name: str, *, guided: bool, steps: int) -> None:
        self.model = replace(config_of(name), dtype=Dtype.float32)
        self.family = find_implementation("model", self.model)
        self.pipe = load(self.family, self.model, "cpu")
        task = next(iter(self.family.tasks))
        scale = self.model.guidance_scale if guided else self.family.unguided_scale
        size = {"width": self.family.tiny_size, "height": self.family.tiny_size}
        size |= {"num_frames": self.family.tiny_frames} if self.family.kind == "video" else {}
        self.options: dict[str, Any] = {"task": task, "steps": steps, "guidance_scale": scale, **size}
        self.called = get_task_pipeline(self.pipe, self.family, task)
        self.denoiser = getattr(self.called, self.family.denoiser)
        self.embeddings = encode_prompt(self.family, self.pipe, self.model, SAMPLE, scale)

    def denoise(self, on_step: Callable[[], None] = lambda: None) -> torch.Tensor:
        result = denoise_latents(self.family, self.pipe, self.model, self.embeddings, on_step=on_step, **self.options)
        return result["latents"]
