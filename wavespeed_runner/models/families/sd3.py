"""Stable Diffusion 3.5 Large and Medium, run with diffusers' StableDiffusion3Pipeline.

Paper: https://arxiv.org/abs/2403.03206.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import RunError
from ...registry import register
from ..block_layouts import modulate_with_norm1, text_first
from ..family import Blocks, Family, allow_guidance, keep_layout, uses_cfg
from ..pipeline_call import decode_scaled_latents
from ..text.clip import check_clip_layers, check_clip_skip
from ..text.prompt_length import allow_length, refuse_truncation
from ..weights import byte_tokenizer, random_init
from .flux import TINY_VAE, VAE

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


class Variant(Enum):
    """The published sizes."""

    large = "large"
    medium = "medium"
    """Its first blocks have a second attention, among image tokens only."""


MEDIUM: dict[str, Any] = {
    "num_layers": 24,
    "num_attention_heads": 24,
    "caption_projection_dim": 1536,
    "pos_embed_max_size": 384,
    "dual_attention_layers": tuple(range(13)),
}
"""Transformer options in which Stable Diffusion 3.5 Medium differs from Large."""

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "SD3Transformer2DModel",
        {
            "sample_size": 128,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 38,
            "attention_head_dim": 64,
            "num_attention_heads": 38,
            "joint_attention_dim": 4096,
            "caption_projection_dim": 2432,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 192,
            "dual_attention_layers": (),
            "qk_norm": "rms_norm",
        },
    ),
    "vae": ("AutoencoderKL", VAE | {"scaling_factor": 1.5305, "shift_factor": 0.0609}),
    "text_encoder": random_init.clip_encoder(768, layers=12, heads=12, class_name="CLIPTextModelWithProjection"),
    "text_encoder_2": random_init.clip_encoder(
        1280, layers=32, heads=20, class_name="CLIPTextModelWithProjection", hidden_act="gelu"
    ),
    "text_encoder_3": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
}
"""Stable Diffusion 3.5 Large as published in the config.json files of
https://huggingface.co/stabilityai/stable-diffusion-3.5-large."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_layers": 3,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "joint_attention_dim": 64,
        "caption_projection_dim": 64,
        "pooled_projection_dim": 64,
        "pos_embed_max_size": 96,
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_CLIP,
    text_encoder_2=random_init.TINY_CLIP,
    text_encoder_3=random_init.TINY_T5 | {"d_model": 64},
)
"""Every component, each with few and narrow layers. T5 stays at least as wide as both CLIP encoders together,
because their states are padded to its width."""


@dataclass(kw_only=True)
class SD3Config(ModelConfig):
    """Options of Stable Diffusion 3.5."""

    name: str = "sd3"
    variant: Variant = Variant.large
    max_sequence_length: int = 256
    """Tokens of the T5 encoder, at most 512. The CLIP encoders always read 77."""
    clip_skip: int | None = None
    """Last layers of both CLIP text encoders to leave out beside the one that is always left out, as diffusers counts.
    Null: none."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 512)
        check_clip_skip(self.clip_skip)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: SD3Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `StableDiffusion3Pipeline` with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    medium = model.variant is Variant.medium
    if model.init is Init.tiny:
        specs = random_init.override_configs(TINY, transformer={"dual_attention_layers": (0, 1)} if medium else {})
    else:
        specs = random_init.override_configs(FULL, transformer=MEDIUM if medium else {})
    return random_init.build_random_pipeline(
        "StableDiffusion3Pipeline",
        specs,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        tokenizer=byte_tokenizer.build_clip_tokenizer(),
        tokenizer_2=byte_tokenizer.build_clip_tokenizer(pad="!"),
        tokenizer_3=byte_tokenizer.build_t5_tokenizer(512),
    )


def check(model: SD3Config, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` if the weights are those of the other variant."""
    check_clip_layers(model, pipe)
    loaded = Variant.medium if pipe.transformer.config.dual_attention_layers else Variant.large
    if loaded is not model.variant:
        raise RunError(
            f"model.variant={model.variant.value}: does not fit model.repo={model.repo}; use model=sd35_{loaded.value}"
        )


def encode(
    pipe: DiffusionPipeline, model: SD3Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, 77 + max_sequence_length, width of T5): the two CLIP encoders side by side, then T5.
    `pooled_prompt_embeds` (1, widths of both CLIP encoders). With classifier-free guidance also the two `negative_*` of
    the same shapes.
    """
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, sample.negative_prompt) if guided else (sample.prompt,):
        if pipe.text_encoder_3 is None:
            refuse_truncation(model, pipe.tokenizer, text, pipe.tokenizer_max_length, "tokenizer.model_max_length")
        else:
            refuse_truncation(model, pipe.tokenizer_3, text, model.max_sequence_length, "model.max_sequence_length")
    embeds, negative, pooled, negative_pooled = pipe.encode_prompt(
        sample.prompt,
        None,
        None,
        negative_prompt=sample.negative_prompt,
        do_classifier_free_guidance=guided,
        clip_skip=model.clip_skip,
        max_sequence_length=model.max_sequence_length,
    )
    embeddings = {"prompt_embeds": embeds, "pooled_prompt_embeds": pooled}
    if guided:
        embeddings |= {"negative_prompt_embeds": negative, "negative_pooled_prompt_embeds": negative_pooled}
    return embeddings


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 16, height / 8, width / 8): uint8 (n, height, width, 3)."""
    return decode_scaled_latents(pipe, latents["latents"])


def get_published_repo(model: SD3Config) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return f"stabilityai/stable-diffusion-3.5-{model.variant.value}"


WHOLE_FILE = {
    "transformer": ("model.diffusion_model.",),
    "vae": ("vae.", "first_stage_model."),
    "text_encoder": ("text_encoders.clip_l.",),
    "text_encoder_2": ("text_encoders.clip_g.",),
    "text_encoder_3": ("text_encoders.t5xxl.",),
}
"""Prefixes of weight names in files that hold a whole model, as ComfyUI writes them."""

SD3 = register("model", "sd3", SD3Config)(
    Family(
        tasks={
            "text_to_image": "StableDiffusion3Pipeline",
            "image_to_image": "StableDiffusion3Img2ImgPipeline",
            "inpaint": "StableDiffusion3InpaintPipeline",
        },
        build=build_pipeline,
        check=check,
        encode=encode,
        unpack_latents=keep_layout,
        decode=decode,
        published_repo=get_published_repo,
        single_file_prefixes=WHOLE_FILE,
        tiny_size=64,
        schedule="flow",
        # The last block returns no prompt tokens.
        blocks=Blocks(lists=(text_first("transformer_blocks"),), modulated_input=modulate_with_norm1),
    )
)
