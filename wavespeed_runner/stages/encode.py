"""Encodes the prompt."""

from __future__ import annotations

from dataclasses import dataclass

from ..artifacts import Embeddings, Images, Pipeline, Sample
from ..config.schema import top_level
from .interface import stage


@dataclass(kw_only=True)
class EncodeOptions:
    guidance_scale: float | None = top_level("guidance_scale")
    """Decides whether the negative prompt is needed."""


@stage("encode", options=EncodeOptions)
def encode(options: EncodeOptions, *, pipeline: Pipeline, sample: Sample, image: Images | None = None) -> Embeddings:
    """Prompt -> the embeddings that the pipeline's call takes. image: for models that read the prompt beside it."""
    import torch

    with torch.inference_mode():
        given = {"image": image.as_pil()[0]} if image else {}
        tensors = pipeline.family.encode(pipeline.pipe, pipeline.model, sample, options.guidance_scale, **given)
        pipeline.pipe.maybe_free_model_hooks()
    return Embeddings(tensors=tensors)
