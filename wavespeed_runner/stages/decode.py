"""Decodes latents to pictures."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import top_level
from ..values import Images, Latents, Pipeline
from . import stage


@dataclass(kw_only=True)
class DecodeOptions:
    width: int = top_level("width")
    height: int = top_level("height")


@stage("decode", options=DecodeOptions)
def decode(options: DecodeOptions, *, pipeline: Pipeline, latents: Latents) -> Images:
    """Latents -> uint8 pictures."""
    import torch

    with torch.inference_mode():
        images = pipeline.family.decode(
            pipeline.pipe,
            latents.tensors["latents"].to(pipeline.device),
            width=options.width,
            height=options.height,
        )
    return Images(tensors={"images": images})
