"""Qwen-Image-Edit, run with diffusers' QwenImageEditPipeline; its later versions with QwenImageEditPlusPipeline.

They change an image as the prompt says. The vision-language model that encodes the prompt reads the image too, so the
encode stage needs it: `graph=image_to_image_seen`. The denoiser is that of Qwen-Image: the image is not noised, its
tokens stand behind those of the noise in every call, so no `strength` acts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from math import sqrt
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError, make_printable
from ...registry import register
from ..family import Family, allow_guidance, read_latents, uses_cfg
from ..text import vision
from ..weights import random_init
from . import qwen_image

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from PIL.Image import Image as PILImage
    from torch import Tensor

    from ..family import CallInputs

PIXELS = 1024**2
"""Pixels that an image is scaled to before the denoiser reads it, as published."""
SEEN_PIXELS = 384**2
"""Pixels that the later versions scale it to before the text encoder reads it; the first reads it at `PIXELS`."""
MOST_TOKENS = 3900
"""Of prompt and image together: the denoiser knows 4096 positions, and those of the image's tokens are among them."""


class Version(Enum):
    """The later versions that were published."""

    edit_2509 = "edit_2509"
    edit_2511 = "edit_2511"
    """The image's tokens are at timestep 0."""


@dataclass(kw_only=True)
class QwenImageEditConfig(ModelConfig):
    """Options of Qwen-Image-Edit."""

    name: str = "qwen_image_edit"
    image_pixels: int | None = None
    """How many pixels the image is scaled to, in its shape and in multiples of 32, before the denoiser reads it; what
    the text encoder reads follows. Null: 1048576, as published; with `init=tiny` 16384."""

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        if self.image_pixels is not None and not 32**2 <= self.image_pixels <= 4096**2:
            raise ConfigError(f"model.image_pixels={self.image_pixels}: allowed: {32**2} to {4096**2}")


@dataclass(kw_only=True)
class QwenImageEditPlusConfig(QwenImageEditConfig):
    """Options of Qwen-Image-Edit-2509 and -2511."""

    name: str = "qwen_image_edit_plus"
    variant: Version = Version.edit_2511
    """The published version that `repo` is or derives from. `init=random` and `init=tiny` build its architecture, and
    it supplies the components that a single file lacks."""


def build_pipeline(model: QwenImageEditConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a pipeline with random weights, of the class that the version was published with."""
    tiny = model.init is Init.tiny
    tokenizer = vision.build_tokenizer(4096)
    encoder = dict((qwen_image.TINY if tiny else qwen_image.FULL)["text_encoder"][1])
    later = isinstance(model, QwenImageEditPlusConfig)
    zero = isinstance(model, QwenImageEditPlusConfig) and model.variant is Version.edit_2511
    return qwen_image.build_random(
        dtype,
        device,
        "QwenImageEditPlusPipeline" if later else "QwenImageEditPipeline",
        random_init.override_configs(
            qwen_image.TINY if tiny else qwen_image.FULL,
            transformer={"zero_cond_t": zero},
            text_encoder=vision.place_tokens(encoder, tokenizer),
        ),
        tokenizer=tokenizer,
        processor=vision.build_processor(tokenizer),
    )


def count_pixels(model: QwenImageEditConfig) -> int:
    """Pixels that images are scaled to before the denoiser reads them."""
    if model.image_pixels is not None:
        return model.image_pixels
    return 128**2 if model.init is Init.tiny else PIXELS


def scale_to(pixels: float, width: int, height: int) -> tuple[int, int]:
    """Width and height of so many pixels in the shape of an image, in multiples of 32, as diffusers computes them."""
    ratio = width / height
    wide = sqrt(pixels * ratio)
    return max(round(wide / 32), 1) * 32, max(round(wide / ratio / 32), 1) * 32


def choose_size(model: QwenImageEditConfig, image: tuple[int, int]) -> tuple[int, int] | None:
    """The size of the result, which is that at which the image is read; None for other sizes than the published."""
    return scale_to(PIXELS, *image) if count_pixels(model) == PIXELS == model.width * model.height else None


def encode(
    pipe: DiffusionPipeline,
    model: QwenImageEditConfig,
    sample: Sample,
    guidance_scale: float | None,
    image: PILImage | None = None,
) -> dict[str, Tensor]:
    """Encodes the prompt together with the image.

    Returns `prompt_embeds` (1, tokens of the image and the prompt, width) and `prompt_embeds_mask`, all ones; with
    classifier-free guidance also the two `negative_*`, with their own number of tokens.

    Raises:
        RunError: no image is wired to the stage, or the prompt is too long.
    """
    import torch

    if image is None:
        raise RunError(
            f"model={model.name}: it reads the prompt together with the image, so the encode stage needs inputs.image; "
            "use graph=image_to_image_seen"
        )
    later = isinstance(model, QwenImageEditPlusConfig)
    pixels = count_pixels(model) * (SEEN_PIXELS / PIXELS if later else 1)
    width, height = scale_to(pixels, *image.size)
    seen = pipe.image_processor.resize(image, height, width)
    prompts = {"": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for prefix, text in prompts.items():
        embeds, _ = pipe.encode_prompt(text, [seen])
        if embeds.shape[1] > MOST_TOKENS:
            raise RunError(
                f"prompt={make_printable(text[:40])!r}...: with the image it has {embeds.shape[1]} tokens, and this "
                f"model reads at most {MOST_TOKENS}; shorten it"
            )
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        embeddings |= {f"{prefix}prompt_embeds": embeds, f"{prefix}prompt_embeds_mask": mask}
    return embeddings


def build_arguments(model: QwenImageEditConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings, the scale of classifier-free guidance, and for `run` the pixels that images are scaled to."""
    scale = inputs.guidance_scale if uses_cfg(model, inputs.guidance_scale) else 1.0
    return {**embeddings, "true_cfg_scale": scale, "image_pixels": count_pixels(model)}


def run(pipe: DiffusionPipeline, call: dict[str, Any]) -> dict[str, Tensor]:
    """Calls the pipeline."""
    with _scale_images(pipe, call.pop("image_pixels")):
        return read_latents(pipe(**call))


@contextmanager
def _scale_images(pipe: DiffusionPipeline, pixels: int) -> Iterator[None]:
    """Has the pipeline scale images to other sizes than the published ones, which are written in its code."""
    if pixels == PIXELS:
        yield
        return
    module: Any = sys.modules[type(pipe).__module__]
    original = module.calculate_dimensions
    module.calculate_dimensions = lambda area, ratio: original(area * pixels / PIXELS, ratio)
    try:
        yield
    finally:
        module.calculate_dimensions = original


def check(model: QwenImageEditPlusConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for the weights of another version."""
    found = Version.edit_2511 if pipe.transformer.config.zero_cond_t else Version.edit_2509
    if found is not model.variant:
        raise RunError(
            f"model.variant={model.variant.value}: does not fit model.repo={model.repo}, by zero_cond_t of its "
            f"transformer's config.json; use {found.value}"
        )


COMMON: dict[str, Any] = {
    "build": build_pipeline,
    "encode": encode,
    "build_arguments": build_arguments,
    "run": run,
    "decode": qwen_image.decode,
    "beside_noise": ("image_to_image",),
    "choose_size": choose_size,
    "min_steps": 2,
    "packages": ("torchvision",),  # transformers' Qwen2VLProcessor has a part for videos
    "blocks": qwen_image.BLOCKS,
}
QWEN_IMAGE_EDIT = register("model", "qwen_image_edit", QwenImageEditConfig)(
    Family(
        tasks={"image_to_image": "QwenImageEditPipeline"},
        published_repo=lambda model: "Qwen/Qwen-Image-Edit",
        **COMMON,
    )
)
# diffusers' pipeline takes one prompt.
QWEN_IMAGE_EDIT_PLUS = register("model", "qwen_image_edit_plus", QwenImageEditPlusConfig)(
    Family(
        tasks={"image_to_image": "QwenImageEditPlusPipeline"},
        check=check,
        published_repo=lambda model: f"Qwen/Qwen-Image-Edit-{model.variant.value[-4:]}",
        supports_batches=False,
        **COMMON,
    )
)
