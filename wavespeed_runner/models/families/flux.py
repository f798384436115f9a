"""FLUX.1 and models of its architecture (the demo model), run with diffusers' FluxPipeline.

Encode, denoise and decode together return the same bits as one call of the pipeline; tests check that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..block_layouts import modulate_with_norm1, text_first
from ..family import Blocks, CallInputs, Family, uses_cfg
from ..guidance import check_true_cfg_scale
from ..pipeline_call import decode_scaled_latents
from ..text.prompt_length import allow_length, refuse_truncation
from ..weights import byte_tokenizer, random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 16,
    "norm_num_groups": 32,
    "sample_size": 1024,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
}
"""The autoencoder of FLUX.1, which other families use too."""

TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 128}

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "FluxTransformer2DModel",
        {
            "patch_size": 1,
            "in_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 768,
            "axes_dims_rope": (16, 56, 56),
        },
    ),
    "vae": ("AutoencoderKL", VAE),
    "text_encoder": random_init.clip_encoder(768, layers=12, heads=12),
    "text_encoder_2": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
}
"""FLUX.1-dev as published in the config.json files of https://huggingface.co/black-forest-labs/FLUX.1-dev."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_layers": 2,
        "num_single_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "joint_attention_dim": 32,
        "pooled_projection_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_CLIP,
    text_encoder_2=random_init.TINY_T5,
)
"""Every component, each with few and narrow layers. Latents keep their 16 channels and 1/8 of the size, so sizes, token
counts and stored latents mean the same. With four heads, sequences can still be split over up to 4 devices."""


@dataclass(kw_only=True)
class FluxConfig(ModelConfig):
    """Options of FLUX.1."""

    name: str = "flux"
    max_sequence_length: int = 512
    """Tokens of the T5 encoder, at most 512. Shorter prompts are padded to it. The model attends to the padding, so
    this must be the length it was trained with."""
    guidance: Guidance = Guidance.embedded
    true_cfg_scale: float | None = None
    """Above 1, classifier-free guidance beside the embedded one: each step also runs the negative prompt. Null: off."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 512)
        check_true_cfg_scale(self, self.true_cfg_scale)
        if self.guidance is Guidance.embedded and self.guidance_scale is None:
            raise ConfigError("model.guidance_scale=null: model.guidance=embedded needs a number; FLUX.1-dev uses 3.5")


def build_pipeline(model: FluxConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `FluxPipeline` with random weights."""
    return build_random(model, dtype, device, "FluxPipeline", TINY if model.init is Init.tiny else FULL)


def build_random(
    model: ModelConfig,
    dtype: torch.dtype,
    device: torch.device | str,
    pipeline: str,
    specs: random_init.ComponentSpecs,
) -> DiffusionPipeline:
    """Builds a pipeline of this architecture with random weights, of whichever class.

    Guidance is an input of the transformer if `model.guidance` says so (FLUX.1-dev). Noise levels follow the image size
    unless the model takes no guidance (FLUX.1-schnell).
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    guided = {"guidance_embeds": model.guidance is Guidance.embedded}
    shifted = model.guidance is not Guidance.none
    return random_init.build_random_pipeline(
        pipeline,
        random_init.override_configs(specs, transformer=guided),
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if shifted else 1.0, use_dynamic_shifting=shifted),
        tokenizer=byte_tokenizer.build_clip_tokenizer(),
        tokenizer_2=byte_tokenizer.build_t5_tokenizer(512),
    )


def check(model: ModelConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` if the weights do not take guidance the way `model.guidance` says."""
    takes_scale = pipe.transformer.config.guidance_embeds
    if takes_scale != (model.guidance is Guidance.embedded):
        allowed = "embedded" if takes_scale else "true_cfg or none"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}; use {allowed}")


def encode(
    pipe: DiffusionPipeline, model: FluxConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of T5) and `pooled_prompt_embeds` (1, width of CLIP); with
    classifier-free guidance also the two `negative_*` of the same shapes.
    """
    prompts = {"": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for prefix, text in prompts.items():
        expanded = pipe.maybe_convert_prompt(text, pipe.tokenizer_2)
        refuse_truncation(model, pipe.tokenizer_2, expanded, model.max_sequence_length, "model.max_sequence_length")
        embeds, pooled, _ = pipe.encode_prompt(text, None, max_sequence_length=model.max_sequence_length)
        embeddings |= {f"{prefix}prompt_embeds": embeds, f"{prefix}pooled_prompt_embeds": pooled}
    return embeddings


def build_arguments(model: FluxConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings, and the guidance scale under the name that `model.guidance` calls for."""
    if model.guidance is Guidance.embedded:
        both = {} if model.true_cfg_scale is None else {"true_cfg_scale": model.true_cfg_scale}
        return {**embeddings, "guidance_scale": inputs.guidance_scale, **both}
    if uses_cfg(model, inputs.guidance_scale):
        return {**embeddings, "true_cfg_scale": inputs.guidance_scale}
    return embeddings


def unpack_latents(pipe: DiffusionPipeline, latents: Tensor, *, width: int, height: int) -> Tensor:
    """Packed latents (n, height / 16 * width / 16, 64) -> (n, 16, height / 8, width / 8), for the usual VAE."""
    return pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes packed latents: uint8 (n, height, width, 3), rounded as diffusers rounds for PIL."""
    return decode_scaled_latents(pipe, unpack_latents(pipe, latents["latents"], width=width, height=height))


def get_published_repo(model: FluxConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return f"black-forest-labs/FLUX.1-{'schnell' if model.guidance is Guidance.none else 'dev'}"


BLOCKS = Blocks(
    lists=(text_first("transformer_blocks"), text_first("single_transformer_blocks")),
    modulated_input=modulate_with_norm1,
)

WHOLE_FILE = {
    "transformer": ("model.diffusion_model.",),
    "vae": ("vae.", "first_stage_model."),
    "text_encoder": ("text_encoders.clip_l.",),
    "text_encoder_2": ("text_encoders.t5xxl.",),
}
"""Prefixes of weight names in files that hold a whole model, as ComfyUI writes them."""

FLUX = register("model", "flux", FluxConfig)(
    Family(
        tasks={
            "text_to_image": "FluxPipeline",
            "image_to_image": "FluxImg2ImgPipeline",
            "inpaint": "FluxInpaintPipeline",
        },
        build=build_pipeline,
        check=check,
        encode=encode,
        build_arguments=build_arguments,
        unpack_latents=unpack_latents,
        decode=decode,
        published_repo=get_published_repo,
        single_file_prefixes=WHOLE_FILE,
        own_sampler=lambda model: "euler",
        is_distilled=lambda model: model.guidance is Guidance.none,
        adapters=("lora", "textual_inversion"),
        blocks=BLOCKS,
    )
)
