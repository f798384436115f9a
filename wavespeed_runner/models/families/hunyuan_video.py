"""HunyuanVideo by Tencent, run with diffusers' HunyuanVideoPipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError
from ...registry import register
from ..block_layouts import image_first, modulate_with_norm1
from ..family import Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..guidance import check_true_cfg_scale
from ..pipeline_call import to_uint8_videos
from ..text.llama import LLAMA3, TINY_LLAMA, build_template_tokenizer
from ..text.prompt_length import refuse_truncation
from ..weights import byte_tokenizer, random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "HunyuanVideoTransformer3DModel",
        {
            "in_channels": 16,
            "out_channels": 16,
            "num_attention_heads": 24,
            "attention_head_dim": 128,
            "num_layers": 20,
            "num_single_layers": 40,
            "num_refiner_layers": 2,
            "patch_size": 2,
            "guidance_embeds": True,
            "text_embed_dim": 4096,
            "pooled_projection_dim": 768,
            "rope_axes_dim": (16, 56, 56),
        },
    ),
    "vae": (
        "AutoencoderKLHunyuanVideo",
        {
            "latent_channels": 16,
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "scaling_factor": 0.476986,
        },
    ),
    "text_encoder": ("LlamaModel", LLAMA3),
    "text_encoder_2": random_init.clip_encoder(768, layers=12, heads=12),
}
"""As published: https://huggingface.co/hunyuanvideo-community/HunyuanVideo."""

TINY_TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "pooled_projection_dim": 32,
    "rope_axes_dim": (4, 6, 6),
}
TINY_VAE: dict[str, Any] = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
TINY = random_init.override_configs(
    FULL,
    transformer=TINY_TRANSFORMER,
    vae=TINY_VAE,
    text_encoder=TINY_LLAMA,
    text_encoder_2=random_init.TINY_CLIP,
)
"""Latents keep their 16 channels, 1/8 of the size and 1/4 of the frames."""


@dataclass(kw_only=True)
class HunyuanVideoConfig(ModelConfig):
    """Options of HunyuanVideo."""

    name: str = "hunyuan_video"
    max_sequence_length: int = 256
    """Prompt tokens that Llama reads, those of its template not counted. CLIP always reads 77."""
    guidance: Guidance = Guidance.embedded
    """With `true_cfg`, every step also runs the negative prompt, and `guidance_scale` is the scale of that guidance."""
    embedded_guidance_scale: float | None = None
    """The scale that the denoiser gets as an input with `guidance: true_cfg`; null: 6, as published."""

    true_cfg_scale: float | None = None
    """With `guidance: embedded`, above 1: classifier-free guidance beside it. Null: off."""

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.embedded, Guidance.true_cfg)
        check_true_cfg_scale(self, self.true_cfg_scale)
        if self.guidance_scale is None:
            raise ConfigError(f"model.guidance_scale=null: model.guidance={self.guidance.value} needs a number")
        if self.embedded_guidance_scale is not None and self.guidance is Guidance.embedded:
            raise ConfigError(
                f"model.embedded_guidance_scale={self.embedded_guidance_scale}: has no effect with "
                "model.guidance=embedded, where guidance_scale is that scale; remove it"
            )
        if not 1 <= self.max_sequence_length <= 1024:
            raise ConfigError(f"model.max_sequence_length={self.max_sequence_length}: allowed: 1 to 1024")


def build_pipeline(model: HunyuanVideoConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `HunyuanVideoPipeline` with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE as PROMPT

    return random_init.build_random_pipeline(
        "HunyuanVideoPipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        tokenizer=build_template_tokenizer(PROMPT["template"], PROMPT["crop_start"]),
        tokenizer_2=byte_tokenizer.build_clip_tokenizer(),
    )


def encode(
    pipe: DiffusionPipeline, model: HunyuanVideoConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of Llama), `prompt_attention_mask` (1, max_sequence_length) and
    `pooled_prompt_embeds` (1, width of CLIP); with classifier-free guidance also the three `negative_*`.
    """
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE as PROMPT

    prompts = {"": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for prefix, text in prompts.items():
        refuse_long_prompt(pipe, model, text, PROMPT)
        embeds, pooled, mask = pipe.encode_prompt(text, max_sequence_length=model.max_sequence_length)
        embeddings |= name_embeddings(prefix, embeds, pooled, mask)
    return embeddings


def refuse_long_prompt(pipe: DiffusionPipeline, model: ModelConfig, text: str, prompt: dict[str, Any]) -> None:
    """Raises `RunError` for a prompt that Llama would not read to its end.

    Only Llama counts: CLIP reads the first 77 tokens, as published, and contributes a single vector.
    """
    limit: int = model.max_sequence_length  # type: ignore[attr-defined]
    tokens = len(pipe.tokenizer(prompt["template"].format(text)).input_ids) - prompt["crop_start"]
    refuse_truncation(model, pipe.tokenizer, text, limit, "model.max_sequence_length", tokens=tokens)


def name_embeddings(prefix: str, embeds: Tensor, pooled: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """The results of `encode_prompt`, by the names of the call's arguments."""
    return {
        f"{prefix}prompt_embeds": embeds,
        f"{prefix}pooled_prompt_embeds": pooled,
        f"{prefix}prompt_attention_mask": mask,
    }


def build_arguments(model: HunyuanVideoConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings, and the guidance scale under the name that `model.guidance` calls for."""
    if model.guidance is Guidance.embedded:
        return {
            **embeddings,
            "guidance_scale": inputs.guidance_scale,
            "true_cfg_scale": model.true_cfg_scale or 1.0,
        }
    embedded = 6.0 if model.embedded_guidance_scale is None else model.embedded_guidance_scale
    scale = inputs.guidance_scale if uses_cfg(model, inputs.guidance_scale) else 1.0
    return {**embeddings, "guidance_scale": embedded, "true_cfg_scale": scale}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Decodes latents (n, 16, 1 + frames / 4, height / 8, width / 8): uint8 (n, num_frames, height, width, 3)."""
    scaled = latents["latents"].to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
    return to_uint8_videos(pipe, pipe.vae.decode(scaled, return_dict=False)[0])


def modulated_input(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: video tokens as the attention of the first block receives them, (n, tokens, channels)."""
    first_frame = arguments.get("token_replace_emb")
    if first_frame is None:
        return modulate_with_norm1(block, streams, arguments)
    return block.norm1(streams["hidden_states"], arguments["temb"], first_frame, arguments["num_tokens"])[0]


BLOCKS = Blocks(
    lists=(image_first("transformer_blocks"), image_first("single_transformer_blocks")), modulated_input=modulated_input
)

HUNYUAN_VIDEO = register("model", "hunyuan_video", HunyuanVideoConfig)(
    Family(
        tasks={"text_to_video": "HunyuanVideoPipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        decode=decode,
        blocks=BLOCKS,
        published_repo=lambda model: "hunyuanvideo-community/HunyuanVideo",
        kind="video",
        frame_multiple=4,
        decoder_channels=128,
        tiny_size=64,
    )
)
