"""The stage `encode`: prompt to text embeddings."""

from __future__ import annotations

from dataclasses import dataclass

from ..artifacts import Embeddings, Images, Pipeline, Sample
from ..config.schema import top_level
from .interface import stage


@dataclass(kw_only=True)
class EncodeOptions:
    """Options of `encode`."""

    guidance_scale: float | None = top_level("guidance_scale")
    """Decides whether the negative prompt is needed."""


@stage("encode", options=EncodeOptions)
def encode(options: EncodeOptions, *, pipeline: Pipeline, sample: Sample, image: Images | None = None) -> Embeddings:
    """Encodes a prompt to the text embeddings that the diffusers pipeline takes.

    Args:
        options: decide whether the negative prompt is encoded.
        pipeline: its text encoders are used.
        sample: the prompt and the negative prompt.
        image: for models that read the prompt together with an image.
    """
    import torch

    with torch.inference_mode(), pipeline.running(), pipeline.watch_compiler():
        images = {"image": image.as_pil()[0]} if image else {}
        tensors = pipeline.family.encode(pipeline.pipe, pipeline.model, sample, options.guidance_scale, **images)
        pipeline.pipe.maybe_free_model_hooks()
    return Embeddings(tensors=tensors)
