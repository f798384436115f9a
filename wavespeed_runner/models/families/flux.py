"""FLUX.1 and models of its architecture (the demo), by way of diffusers' FluxPipeline.

Encode, denoise and decode together give the same bits as one call of the pipeline; tests hold them to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..block_layouts import normalised, text_first
from ..family import Blocks, Family, Wanted, two_passes
from ..pipeline_call import scaled_images
from ..text.prompt_length import allow_length, refuse_cut
from ..weights import random_init

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
"""The autoencoder of FLUX.1, which other families took over."""

TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 128}

FULL: random_init.Parts = {
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
    "text_encoder": random_init.clip(768, layers=12, heads=12),
    "text_encoder_2": random_init.t5(4096, ff=10240, layers=24, heads=64),
}
"""FLUX.1-dev as published: the config.json files of https://huggingface.co/black-forest-labs/FLUX.1-dev."""

TINY = random_init.shrunk(
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
"""Every part kept, each with few and narrow layers. Latents keep their 16 channels and their 1/8 of the size, so that
sizes, token counts and stored latents mean the same. Four heads: sequences can still be split over up to 4 devices."""


@dataclass(kw_only=True)
class FluxConfig(ModelConfig):
    name: str = "flux"
    max_sequence_length: int = 512
    """Tokens of the T5 encoder, at most 512; shorter prompts are padded to it, and the padding is attended to, so it
    must be what the model was trained with."""
    guidance: Guidance = Guidance.embedded

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 512)
        if self.guidance is Guidance.embedded and self.guidance_scale is None:
            raise ConfigError("model.guidance_scale=null: model.guidance=embedded needs a number; 3.5 is FLUX.1-dev's")


def build_pipeline(model: FluxConfig, dtype: Any, device: Any) -> Any:
    """A `FluxPipeline` of random weights: with guidance as an input, if the model says so (FLUX.1-dev), and with
    noise levels that follow the image size (not in FLUX.1-schnell)."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    parts = TINY if model.init is Init.tiny else FULL
    guided = {"guidance_embeds": model.guidance is Guidance.embedded}
    shifted = model.guidance is not Guidance.none
    return random_init.assemble(
        "FluxPipeline",
        random_init.shrunk(parts, transformer=guided),
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if shifted else 1.0, use_dynamic_shifting=shifted),
        tokenizer=random_init.clip_tokenizer(),
        tokenizer_2=random_init.t5_tokenizer(512),
    )


def check(model: FluxConfig, pipe: Any) -> None:
    """Raises `RunError` when the weights do not take guidance as `model.guidance` says."""
    takes_scale = pipe.transformer.config.guidance_embeds
    if takes_scale != (model.guidance is Guidance.embedded):
        allowed = "embedded" if takes_scale else "true_cfg or none"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}, take {allowed}")


def encode(pipe: Any, model: FluxConfig, sample: Any, guidance_scale: float | None) -> dict[str, Any]:
    """The prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of T5) and `pooled_prompt_embeds` (1, width of CLIP); with
    classifier-free guidance also the two `negative_*` of the same shapes.
    """
    prompts = {"": sample.prompt}
    if two_passes(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    arguments: dict[str, Any] = {}
    for prefix, text in prompts.items():
        whole = pipe.maybe_convert_prompt(text, pipe.tokenizer_2)
        refuse_cut(model, pipe.tokenizer_2, whole, model.max_sequence_length, "model.max_sequence_length")
        embeds, pooled, _ = pipe.encode_prompt(text, None, max_sequence_length=model.max_sequence_length)
        arguments |= {f"{prefix}prompt_embeds": embeds, f"{prefix}pooled_prompt_embeds": pooled}
    return arguments


def arguments(model: FluxConfig, embeddings: dict[str, Any], wanted: Wanted) -> dict[str, Any]:
    """guidance_scale is read as `model.guidance` says."""
    if model.guidance is Guidance.embedded:
        return {**embeddings, "guidance_scale": wanted.guidance_scale}
    if two_passes(model, wanted.guidance_scale):
        return {**embeddings, "true_cfg_scale": wanted.guidance_scale}
    return embeddings


def unpacked(pipe: Any, latents: Any, *, width: int, height: int) -> Any:
    """Packed latents (n, height / 16 * width / 16, 64) -> (n, 16, height / 8, width / 8); sizes for the usual VAE."""
    return pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)


def decode(pipe: Any, latents: dict[str, Any], *, width: int, height: int, num_frames: int | None = None) -> Any:
    """Images from packed latents: numpy uint8 (n, height, width, 3), rounded as diffusers rounds for PIL."""
    return scaled_images(pipe, unpacked(pipe, latents["latents"], width=width, height=height))


def published(model: FluxConfig) -> str:
    """Where the parts come from that a single file lacks."""
    return f"black-forest-labs/FLUX.1-{'schnell' if model.guidance is Guidance.none else 'dev'}"


BLOCKS = Blocks(lists=(text_first("transformer_blocks"), text_first("single_transformer_blocks")), modulated=normalised)

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
        arguments=arguments,
        unpacked=unpacked,
        decode=decode,
        published=published,
        own_sampler=lambda model: "euler",
        distilled=lambda model: model.guidance is Guidance.none,
        adapters=("lora", "textual_inversion"),
        blocks=BLOCKS,
    )
)
