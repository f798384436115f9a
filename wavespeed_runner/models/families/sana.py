"""Sana, run with diffusers' SanaPipeline. Paper: https://arxiv.org/abs/2410.10629."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...registry import register
from ..block_layouts import modulate_with_table
from ..family import BlockList, Blocks, Family, allow_guidance
from ..pipeline_call import to_uint8_images
from ..text.gemma import GEMMA2, TINY_GEMMA2, build_gemma_tokenizer
from ..text.prompt_length import allow_length, build_masked_arguments, encode_with_mask, list_prompts, refuse_truncation
from ..weights import random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

STAGES = ("ResBlock",) * 3 + ("EfficientViTBlock",) * 3
FULL: random_init.ComponentSpecs = {
    "transformer": (
        "SanaTransformer2DModel",
        {
            "in_channels": 32,
            "num_attention_heads": 70,
            "attention_head_dim": 32,
            "num_layers": 20,
            "num_cross_attention_heads": 20,
            "cross_attention_head_dim": 112,
            "cross_attention_dim": 2240,
            "caption_channels": 2304,
            "sample_size": 32,
        },
    ),
    "vae": (
        "AutoencoderDC",
        {
            "latent_channels": 32,
            "encoder_block_types": STAGES,
            "decoder_block_types": STAGES,
            "upsample_block_type": "interpolate",
            "downsample_block_type": "Conv",
            "scaling_factor": 0.41407,
        },
    ),
    "text_encoder": GEMMA2,
}
"""1.6 B parameters at 1024 pixels, as published in the config.json files of
https://huggingface.co/Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers."""

NARROW = (8, 8, 8, 16, 16, 32)
TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_attention_heads": 4,
        "attention_head_dim": 8,
        "num_layers": 2,
        "num_cross_attention_heads": 2,
        "cross_attention_head_dim": 16,
        "cross_attention_dim": 32,
        "caption_channels": 32,
    },
    vae={
        "attention_head_dim": 8,
        "encoder_block_out_channels": NARROW,
        "decoder_block_out_channels": NARROW,
        "encoder_layers_per_block": (1,) * 6,
        "decoder_layers_per_block": (1,) * 6,
    },
    text_encoder=TINY_GEMMA2,
)
"""Every component, each with few and narrow layers. Latents keep their 32 channels and 1/32 of the size."""


@dataclass(kw_only=True)
class SanaConfig(ModelConfig):
    """Options of Sana."""

    name: str = "sana"
    max_sequence_length: int = 300
    """Tokens that prompts are padded to, the pipeline's instruction not counted."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 300)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: SanaConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `SanaPipeline` with random weights and the published solver."""
    from diffusers import DPMSolverMultistepScheduler

    return random_init.build_random_pipeline(
        "SanaPipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, final_sigmas_type="zero"
        ),
        tokenizer=build_gemma_tokenizer(),
    )


def encode(
    pipe: DiffusionPipeline, model: SanaConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as `encode_with_mask` does, behind the default instruction of the pipeline's call."""
    instruction = signature(type(pipe).__call__).parameters["complex_human_instruction"].default
    for text in list_prompts(model, sample, guidance_scale):
        refuse_truncation(model, pipe.tokenizer, text, model.max_sequence_length, "model.max_sequence_length")
    return encode_with_mask(pipe, model, sample, guidance_scale, complex_human_instruction=instruction)


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 32, height / 32, width / 32): uint8 (n, height, width, 3)."""
    grid = latents["latents"].to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
    return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])


def get_published_repo(model: SanaConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return "Efficient-Large-Model/Sana_1600M_1024px_BF16_diffusers"


SANA = register("model", "sana", SanaConfig)(
    Family(
        tasks={"text_to_image": "SanaPipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_masked_arguments,
        decode=decode,
        published_repo=get_published_repo,
        size_multiple=32,
        blocks=Blocks(lists=(BlockList(name="transformer_blocks"),), modulated_input=modulate_with_table),
    )
)
