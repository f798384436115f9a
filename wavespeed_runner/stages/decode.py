"""Decodes latents to images or videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..artifacts import Images, Latents, Pipeline, Videos
from ..config.schema import top_level
from ..errors import ConfigError
from .interface import stage


@dataclass(kw_only=True)
class DecodeOptions:
    """None: sizes are those that the latents were made for."""


@stage("decode", options=DecodeOptions)
def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images:
    """Latents -> uint8 images."""
    return Images(tensors={"images": decode_latents(pipeline, latents)})


@dataclass(kw_only=True)
class DecodeVideoOptions:
    fps: int = top_level("model.fps")
    """Frames a second at which the video is to be shown."""

    def __post_init__(self) -> None:
        if not 1 <= self.fps <= 240:
            raise ConfigError(f"fps={self.fps}: 1 to 240 is needed")


@stage("decode_video", options=DecodeVideoOptions)
def decode_video(options: DecodeVideoOptions, *, pipeline: Pipeline, latents: Latents) -> Videos:
    """Latents -> uint8 frames."""
    return Videos(tensors={"frames": decode_latents(pipeline, latents)}, data={"fps": options.fps})


def decode_latents(pipeline: Pipeline, latents: Latents) -> Any:
    """One after the other, so that an image does not depend on its neighbours; an empty array for no latents."""
    import numpy as np
    import torch

    size = latents.data["size"]
    count = len(latents.tensors["latents"])
    if not count:
        return np.empty((0, size["height"], size["width"], 3), np.uint8)
    parts = []
    with torch.inference_mode():
        for one in range(count):
            tensors = {name: tensor[one : one + 1].to(pipeline.device) for name, tensor in latents.tensors.items()}
            parts.append(pipeline.family.decode(pipeline.pipe, tensors, **size))
    pipeline.pipe.maybe_free_model_hooks()
    return np.concatenate(parts)
