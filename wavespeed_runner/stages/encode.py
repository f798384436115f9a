"""The stage `encode`: prompt to text embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..artifacts import Embeddings, Images, Pipeline, Sample
from ..config.schema import Weighting, top_level
from ..models.text.clip_chunks import PromptReading
from .interface import stage


@dataclass(kw_only=True)
class EncodeOptions:
    """Options of `encode`."""

    guidance_scale: float | None = top_level("guidance_scale")
    """Decides whether the negative prompt is needed."""
    weighting: Weighting = top_level("prompts.weighting")
    chunked: bool = top_level("prompts.chunked")


@stage("encode", options=EncodeOptions)
def encode(options: EncodeOptions, *, pipeline: Pipeline, sample: Sample, image: Images | None = None) -> Embeddings:
    """Encodes a prompt to the text embeddings that the diffusers pipeline takes.

    Args:
        options: decide whether the negative prompt is encoded, and how prompts are read.
        pipeline: its text encoders are used.
        sample: the prompt and the negative prompt.
        image: for models that read the prompt together with an image.
    """
    import torch

    reading = PromptReading(weighting=options.weighting, chunked=options.chunked)
    with torch.inference_mode(), pipeline.running(), pipeline.watch_compiler():
        more: dict[str, Any] = {"image": image.as_pil()[0]} if image else {}
        more |= {} if reading.is_plain else {"reading": reading}
        tensors = pipeline.family.encode(pipeline.pipe, pipeline.model, sample, options.guidance_scale, **more)
        pipeline.pipe.maybe_free_model_hooks()
    return Embeddings(tensors=tensors, data={"read": reading.counts} if reading.counts else {})
