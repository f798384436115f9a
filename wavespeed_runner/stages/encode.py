"""Encodes the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import top_level
from ..values import Embeddings, Pipeline, Sample
from . import stage


@dataclass(kw_only=True)
class EncodeOptions:
    guidance_scale: float | None = top_level("guidance_scale")
    """Decides whether the negative prompt is needed."""


@stage("encode", options=EncodeOptions)
def encode(options: EncodeOptions, *, pipeline: Pipeline, sample: Sample) -> Embeddings:
    """Prompt -> the embeddings that the pipeline's call takes."""
    import torch

    with torch.inference_mode():
        tensors = pipeline.family.encode(pipeline.pipe, pipeline.model, sample, options.guidance_scale)
    return Embeddings(tensors=tensors)
