"""A sample, configurations of tiny FLUX, and its image by separate stages or by one call of the pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.models.staged import run_stages
from wavespeed_runner.artifacts import Sample
from wavespeed_runner.config.schema import Guidance, Init
from wavespeed_runner.models.families.flux import FLUX, FluxConfig

SCALES = {Guidance.embedded: 3.5, Guidance.true_cfg: 2.0, Guidance.none: None}
SAMPLE = Sample(prompt="a red circle above a blue square", negative_prompt="dark", seed=3)


def tiny_config(guidance: Guidance = Guidance.embedded, **changes: Any) -> FluxConfig:
    given: dict[str, Any] = {"repo": "nobody/nothing", "init": Init.tiny, "steps": 3, "width": 64, "height": 64}
    given |= {"guidance": guidance, "guidance_scale": SCALES[guidance], "max_sequence_length": 40}
    return FluxConfig(**{**given, **changes})


def generate_staged(pipe, config, seed=3, on_step=lambda: None, size=64):
    """The image by encode, denoise and decode."""
    sample = Sample(prompt=SAMPLE.prompt, negative_prompt=SAMPLE.negative_prompt, seed=seed)
    return run_stages(FLUX, pipe, config, sample, on_step=on_step, width=size, height=size)


def generate_whole(pipe, config, **guidance):
    """The image by one call of the pipeline."""
    call = {"num_inference_steps": config.steps, "max_sequence_length": config.max_sequence_length, **guidance}
    generator = torch.Generator().manual_seed(3)
    images = pipe(SAMPLE.prompt, width=64, height=64, generator=generator, **call).images
    return np.stack([np.asarray(image) for image in images])
