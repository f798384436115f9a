"""Qwen-Image, run with diffusers' QwenImagePipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError
from ...registry import register
from ..block_layouts import text_first
from ..family import Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..pipeline_call import to_uint8_images
from ..text import encoders
from ..text.prompt_length import refuse_truncation
from ..weights import random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "QwenImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 64,
            "out_channels": 16,
            "num_layers": 60,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 3584,
            "axes_dims_rope": (16, 56, 56),
        },
    ),
    "vae": (
        "AutoencoderKLQwenImage",
        {
            "base_dim": 96,
            "z_dim": 16,
            "dim_mult": [1, 2, 4, 4],
            "num_res_blocks": 2,
            "temperal_downsample": [False, True, True],
        },
    ),
    "text_encoder": encoders.QWEN2_5_VL,
}
"""Qwen-Image as published in the config.json files of https://huggingface.co/Qwen/Qwen-Image. The latents' means and
deviations are the defaults of the autoencoder's class."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "joint_attention_dim": 32,
        "axes_dims_rope": (4, 6, 6),
    },
    vae={"base_dim": 8, "num_res_blocks": 1},
    text_encoder=encoders.TINY_QWEN2_5_VL,
)
"""Every component, each with few and narrow layers. Latents keep their 16 channels and 1/8 of the size."""


@dataclass(kw_only=True)
class QwenImageConfig(ModelConfig):
    """Options of Qwen-Image."""

    name: str = "qwen_image"
    max_sequence_length: int = 512
    """Prompt tokens that are read, at most 1024. Shorter prompts are not padded."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_sequence_length <= 1024:
            raise ConfigError(f"model.max_sequence_length={self.max_sequence_length}: allowed: 1 to 1024")
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: QwenImageConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `QwenImagePipeline` with random weights."""
    specs = TINY if model.init is Init.tiny else FULL
    return build_random(dtype, device, "QwenImagePipeline", specs, tokenizer=encoders.build_chat_tokenizer(4096))


def build_random(
    dtype: torch.dtype,
    device: torch.device | str,
    pipeline: str,
    specs: random_init.ComponentSpecs,
    **others: Any,
) -> DiffusionPipeline:
    """Builds a pipeline of this architecture with random weights, of whichever class.

    Its noise levels are the published ones: they follow the image size and end at 0.02.
    """
    from diffusers import FlowMatchEulerDiscreteScheduler

    return random_init.build_random_pipeline(
        pipeline,
        specs,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True, base_shift=0.5, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02
        ),
        **others,
    )


def encode(
    pipe: DiffusionPipeline, model: QwenImageConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, tokens, width) and `prompt_embeds_mask` (1, tokens), all ones; with classifier-free guidance
    also the two `negative_*`, with their own number of tokens.
    """
    import torch

    prompts = {"": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for prefix, text in prompts.items():
        limit = model.max_sequence_length
        templated = len(pipe.tokenizer(pipe.prompt_template_encode.format(text)).input_ids)
        tokens = templated - pipe.prompt_template_encode_start_idx
        refuse_truncation(model, pipe.tokenizer, text, limit, "model.max_sequence_length", tokens=tokens)
        embeds, _ = pipe.encode_prompt(text, max_sequence_length=limit)
        # encode_prompt returns None for a mask of all ones, but the call warns without a mask.
        mask = torch.ones(embeds.shape[:2], dtype=torch.long, device=embeds.device)
        embeddings |= {f"{prefix}prompt_embeds": embeds, f"{prefix}prompt_embeds_mask": mask}
    return embeddings


def build_arguments(model: QwenImageConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings and the scale of classifier-free guidance.

    The pipeline's own `guidance_scale` is for guidance-distilled models, which were never published.
    """
    scale = inputs.guidance_scale if uses_cfg(model, inputs.guidance_scale) else 1.0
    return {**embeddings, "true_cfg_scale": scale, "max_sequence_length": model.max_sequence_length}


def unpack_latents(pipe: DiffusionPipeline, latents: Tensor, *, width: int, height: int) -> Tensor:
    """Packed latents (n, height / 16 * width / 16, 64) -> (n, 16, height / 8, width / 8)."""
    return pipe._unpack_latents(latents, height, width, pipe.vae_scale_factor)[:, :, 0]


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes packed latents: uint8 (n, height, width, 3). The VAE is a video VAE, an image is a single frame."""
    import torch

    grid = pipe._unpack_latents(latents["latents"], height, width, pipe.vae_scale_factor).to(pipe.vae.dtype)
    shape = (1, pipe.vae.config.z_dim, 1, 1, 1)
    mean = torch.tensor(pipe.vae.config.latents_mean).view(shape).to(grid.device, grid.dtype)
    # Divides by the inverse, as diffusers does: the rounding differs from multiplying.
    inverse = 1.0 / torch.tensor(pipe.vae.config.latents_std).view(shape).to(grid.device, grid.dtype)
    return to_uint8_images(pipe, pipe.vae.decode(grid / inverse + mean, return_dict=False)[0][:, :, 0])


def get_published_repo(model: QwenImageConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return "Qwen/Qwen-Image"


def modulated_input(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: image tokens as the attention of the first block receives them, (n, tokens, channels)."""
    tokens = streams["hidden_states"]
    # Shift, scale and gate of the attention, then those of the feed-forward.
    shift, scale = block.img_mod(arguments["temb"])[:, None].chunk(6, dim=-1)[:2]
    if (index := arguments.get("modulate_index")) is not None:  # 1 for tokens of an image that is read, at timestep 0
        is_own = index[..., None] == 0
        shift, scale = (is_own * value[: len(tokens)] + ~is_own * value[len(tokens) :] for value in (shift, scale))
    return block.img_norm1(tokens) * (1 + scale) + shift


BLOCKS = Blocks(lists=(text_first("transformer_blocks"),), modulated_input=modulated_input)


QWEN_IMAGE = register("model", "qwen_image", QwenImageConfig)(
    Family(
        tasks={
            "text_to_image": "QwenImagePipeline",
            "image_to_image": "QwenImageImg2ImgPipeline",
            "inpaint": "QwenImageInpaintPipeline",
        },
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        unpack_latents=unpack_latents,
        decode=decode,
        published_repo=get_published_repo,
        min_steps=2,
        blocks=BLOCKS,
    )
)
