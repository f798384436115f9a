"""Decodes latents to pictures or videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..config import top_level
from ..values import Images, Latents, Pipeline, Videos
from . import stage


@dataclass(kw_only=True)
class DecodeOptions:
    """None: sizes are those that the latents were made for."""


@stage("decode", options=DecodeOptions)
def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images:
    """Latents -> uint8 pictures."""
    return Images(tensors={"images": _decoded(pipeline, latents)})


@dataclass(kw_only=True)
class DecodeVideoOptions:
    fps: int = top_level("model.fps")
    """Frames a second at which the video is to be shown."""


@stage("decode_video", options=DecodeVideoOptions)
def decode_video(options: DecodeVideoOptions, *, pipeline: Pipeline, latents: Latents) -> Videos:
    """Latents -> uint8 frames."""
    return Videos(tensors={"frames": _decoded(pipeline, latents)}, data={"fps": options.fps})


def _decoded(pipeline: Pipeline, latents: Latents) -> Any:
    import torch

    tensors = {name: tensor.to(pipeline.device) for name, tensor in latents.tensors.items()}
    with torch.inference_mode():
        decoded = pipeline.family.decode(pipeline.pipe, tensors, **latents.data["size"])
    pipeline.pipe.maybe_free_model_hooks()
    return decoded
