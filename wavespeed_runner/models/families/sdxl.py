"""Stable Diffusion XL and models of its architecture, run with diffusers' StableDiffusionXLPipeline.

The U-Net's size and crop inputs are the pipeline's defaults: the size of the image, nothing cropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Init, ModelConfig
from ...registry import register
from ..family import Family, UNetBlocks, uses_cfg
from ..guidance import build_rescaled_arguments, check_guidance_rescale
from ..pipeline_call import to_uint8_images
from ..text.clip import check_clip_skip
from ..text.clip_chunks import PromptReading, encode_in_chunks
from ..text.prompt_length import refuse_long_prompt
from ..weights import byte_tokenizer, random_init
from .sd import LAYOUT, NOISE, check, unpack_latents
from .sd_architectures import TINY_VAE, vae

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

FULL: random_init.ComponentSpecs = {
    "unet": (
        "UNet2DConditionModel",
        {
            "sample_size": 128,
            "block_out_channels": (320, 640, 1280),
            "layers_per_block": 2,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": (1, 2, 10),
            "attention_head_dim": (5, 10, 20),
            "cross_attention_dim": 2048,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 1280 + 6 * 256,
        },
    ),
    "vae": vae(sample_size=1024, scaling_factor=0.13025),
    "text_encoder": random_init.clip_encoder(768, layers=12, heads=12),
    "text_encoder_2": random_init.clip_encoder(
        1280, layers=32, heads=20, class_name="CLIPTextModelWithProjection", hidden_act="gelu"
    ),
}
"""As published in the config.json files of https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0."""

TINY_BIG_CLIP = random_init.TINY_CLIP | {"hidden_size": 48, "projection_dim": 48}
TINY = random_init.override_configs(
    FULL,
    unet={
        "sample_size": 8,
        "block_out_channels": (16, 32, 32),
        "transformer_layers_per_block": (1, 1, 2),
        "attention_head_dim": (1, 2, 2),
        "cross_attention_dim": 32 + 48,
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 48 + 6 * 8,
        "norm_num_groups": 8,
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_CLIP,
    text_encoder_2=TINY_BIG_CLIP,
)
"""As in `sd.py`. The text encoders keep different widths, by which diffusers tells them apart in single files."""


@dataclass(kw_only=True)
class SDXLConfig(ModelConfig):
    """Options of Stable Diffusion XL."""

    name: str = "sdxl"
    clip_skip: int | None = None
    """Last layers of both CLIP text encoders to leave out beside the one that SDXL always leaves out, as diffusers
    counts. Null: none."""
    guidance_rescale: float = 0.0
    """Rescales guided predictions against excess contrast, https://arxiv.org/abs/2305.08891: 0 (off) to 1."""

    def __post_init__(self) -> None:
        check_clip_skip(self.clip_skip)
        check_guidance_rescale(self, self.guidance_rescale)


def build_pipeline(model: SDXLConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `StableDiffusionXLPipeline` with random weights."""
    from diffusers import EulerDiscreteScheduler

    return random_init.build_random_pipeline(
        "StableDiffusionXLPipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=EulerDiscreteScheduler(**NOISE, timestep_spacing="leading"),
        tokenizer=byte_tokenizer.build_clip_tokenizer(),
        tokenizer_2=byte_tokenizer.build_clip_tokenizer(pad="!"),
        **OPTIONS,
    )


def encode(
    pipe: DiffusionPipeline,
    model: SDXLConfig,
    sample: Sample,
    guidance_scale: float | None,
    reading: PromptReading | None = None,
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, 77, width of both text encoders) and `pooled_prompt_embeds` (1, width of the second one); with
    classifier-free guidance also the two `negative_*` of the same shapes. For an empty negative prompt
    they are zeros if the model was trained that way (`force_zeros_for_empty_prompt`).
    """
    if reading:
        return encode_in_chunks(pipe, model, sample, guidance_scale, reading)
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, *((sample.negative_prompt,) if guided else ())):
        refuse_long_prompt(pipe, model, text)
    embeds, negative, pooled, negative_pooled = pipe.encode_prompt(
        sample.prompt,
        do_classifier_free_guidance=guided,
        negative_prompt=sample.negative_prompt or None,
        clip_skip=model.clip_skip,
    )
    embeddings = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    if guided:
        embeddings |= {"negative_prompt_embeds": negative, "negative_pooled_prompt_embeds": negative_pooled}
    return embeddings


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 4, height / 8, width / 8): uint8 (n, height, width, 3).

    The published VAE overflows in float16, so it is cast to float32 while it decodes. Some fine-tunes define a mean and
    a deviation per channel.
    """
    import torch

    grid, config = latents["latents"], pipe.vae.config
    upcast = pipe.vae.dtype == torch.float16 and config.force_upcast
    if upcast:
        pipe.vae.to(torch.float32)
        grid = grid.float()
    try:
        mean, std = ((getattr(config, name, None)) for name in ("latents_mean", "latents_std"))
        if mean is not None and std is not None:
            mean, std = (torch.tensor(values).view(1, 4, 1, 1).to(grid) for values in (mean, std))
            grid = grid * std / config.scaling_factor + mean
        else:
            grid = grid / config.scaling_factor
        return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])
    finally:
        if upcast:
            pipe.vae.to(torch.float16)


def get_published_repo(model: SDXLConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return "stabilityai/stable-diffusion-xl-base-1.0"


OPTIONS: dict[str, Any] = {"add_watermarker": False}
"""If invisible-watermark is installed, diffusers would otherwise change the pixels."""

ENCODER_PREFIXES = {"text_encoder": ("conditioner.embedders.0.",), "text_encoder_2": ("conditioner.embedders.1.",)}

SDXL = register("model", "sdxl", SDXLConfig)(
    Family(
        tasks={
            "text_to_image": "StableDiffusionXLPipeline",
            "image_to_image": "StableDiffusionXLImg2ImgPipeline",
            "inpaint": "StableDiffusionXLInpaintPipeline",
        },
        build=build_pipeline,
        check=check,
        encode=encode,
        build_arguments=build_rescaled_arguments,
        unpack_latents=unpack_latents,
        decode=decode,
        denoiser="unet",
        blocks=UNetBlocks(),
        published_repo=get_published_repo,
        pipeline_options=OPTIONS,
        single_file_prefixes=LAYOUT | ENCODER_PREFIXES,
        size_multiple=8,
        tiny_size=64,
        adapters=("lora", "textual_inversion"),
        schedule="diffusion",
    )
)
