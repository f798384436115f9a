"""PixArt-Sigma, run with diffusers' PixArtSigmaPipeline. Paper: https://arxiv.org/abs/2403.04692."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...registry import register
from ..block_layouts import modulate_with_table
from ..family import BlockList, Blocks, Family, allow_guidance
from ..pipeline_call import to_uint8_images
from ..text.prompt_length import allow_length, build_masked_arguments, encode_with_mask, list_prompts, refuse_truncation
from ..weights import byte_tokenizer, random_init
from .sd_architectures import TINY_VAE, vae

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "PixArtTransformer2DModel",
        {
            "num_attention_heads": 16,
            "attention_head_dim": 72,
            "in_channels": 4,
            "out_channels": 8,
            "num_layers": 28,
            "cross_attention_dim": 1152,
            "sample_size": 128,
            "use_additional_conditions": False,
            "caption_channels": 4096,
        },
    ),
    "vae": vae(sample_size=1024, scaling_factor=0.13025),
    "text_encoder": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
}
"""As published in the config.json files of https://huggingface.co/PixArt-alpha/PixArt-Sigma-XL-2-1024-MS. Its
autoencoder is that of Stable Diffusion XL."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "num_layers": 2,
        "cross_attention_dim": 32,
        "caption_channels": 32,
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_T5,
)
"""Every component, each with few and narrow layers. Latents keep their 4 channels and 1/8 of the size."""


@dataclass(kw_only=True)
class PixArtSigmaConfig(ModelConfig):
    """Options of PixArt-Sigma."""

    name: str = "pixart_sigma"
    max_sequence_length: int = 300
    """Tokens of the T5 encoder that prompts are padded to."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 300)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: PixArtSigmaConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `PixArtSigmaPipeline` with random weights and the published solver."""
    from diffusers import DPMSolverMultistepScheduler

    return random_init.build_random_pipeline(
        "PixArtSigmaPipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear"),
        tokenizer=byte_tokenizer.build_t5_tokenizer(300),
    )


def encode(
    pipe: DiffusionPipeline, model: PixArtSigmaConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as `encode_with_mask` does; the pipeline turns it to lower case."""
    for text in list_prompts(model, sample, guidance_scale):
        refuse_truncation(model, pipe.tokenizer, text, model.max_sequence_length, "model.max_sequence_length")
    return encode_with_mask(pipe, model, sample, guidance_scale)


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 4, height / 8, width / 8): uint8 (n, height, width, 3)."""
    grid = latents["latents"].to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
    return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])


def get_published_repo(model: PixArtSigmaConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"


PIXART_SIGMA = register("model", "pixart_sigma", PixArtSigmaConfig)(
    Family(
        tasks={"text_to_image": "PixArtSigmaPipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_masked_arguments,
        decode=decode,
        published_repo=get_published_repo,
        adapters=(),
        schedule="diffusion",
        blocks=Blocks(lists=(BlockList(name="transformer_blocks"),), modulated_input=modulate_with_table),
    )
)
