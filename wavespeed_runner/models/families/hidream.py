"""HiDream-I1, a sparse mixture of experts that reads its prompt with four encoders, by way of diffusers'
HiDreamImagePipeline.

https://arxiv.org/abs/2505.22705.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import sqrt
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...registry import register
from ..block_layouts import image_first
from ..family import (
    BlockList,
    Blocks,
    CallInputs,
    Family,
    allow_guidance,
    build_plain_arguments,
    keep_layout,
    uses_cfg,
)
from ..pipeline_call import decode_scaled_latents
from ..text import encoders
from ..text.prompt_length import allow_length, refuse_truncation
from ..weights import random_init
from .flux import TINY_VAE, VAE

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


class Variant(Enum):
    full = "full"
    dev = "dev"
    """Distilled: 28 steps, no guidance."""
    fast = "fast"
    """Distilled: 16 steps, no guidance."""


FULL: random_init.ComponentSpecs = {
    "transformer": (
        "HiDreamImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 16,
            "num_single_layers": 32,
            "attention_head_dim": 128,
            "num_attention_heads": 20,
            "caption_channels": (4096, 4096),
            "text_emb_dim": 2048,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "axes_dims_rope": (64, 32, 32),
            "max_resolution": (128, 128),
            "llama_layers": (*range(32), *(31,) * 16),
        },
    ),
    "vae": ("AutoencoderKL", VAE),
    "text_encoder": random_init.clip_encoder(
        768, layers=12, heads=12, class_name="CLIPTextModelWithProjection", max_position_embeddings=248
    ),
    "text_encoder_2": random_init.clip_encoder(
        1280,
        layers=32,
        heads=20,
        class_name="CLIPTextModelWithProjection",
        max_position_embeddings=248,
        hidden_act="gelu",
    ),
    "text_encoder_3": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
    "text_encoder_4": encoders.LLAMA_3_1,
}
"""HiDream-I1 as published: the config.json files of https://huggingface.co/HiDream-ai/HiDream-I1-Full. Its autoencoder
is FLUX's, its CLIPs were taught to read longer prompts."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "caption_channels": (32, 32),
        "text_emb_dim": 64,
        "axes_dims_rope": (8, 4, 4),
        "llama_layers": (0, 1, 1, 1),
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_CLIP,
    text_encoder_2=random_init.TINY_CLIP,
    text_encoder_3=random_init.TINY_T5,
    text_encoder_4=encoders.TINY_LLM,
)
"""Every part and expert kept, each with few and narrow layers."""


@dataclass(kw_only=True)
class HiDreamConfig(ModelConfig):
    name: str = "hidream"
    variant: Variant = Variant.full
    text_encoder_4: str | None = "meta-llama/Llama-3.1-8B-Instruct"
    """Where Llama and its tokenizer come from, which HiDream's repositories lack: hub id or local folder. Null: they
    are in `repo`."""
    max_sequence_length: int = 128
    """Tokens of each text encoder, at most 218."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 218)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: HiDreamConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """A `HiDreamImagePipeline` of random weights, with the variant's own scheduler."""
    return random_init.build_random_pipeline(
        "HiDreamImagePipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=_scheduler(model.variant),
        tokenizer=random_init.build_clip_tokenizer(248),
        tokenizer_2=random_init.build_clip_tokenizer(248, pad="!"),
        tokenizer_3=random_init.build_t5_tokenizer(512),
        tokenizer_4=encoders.build_llama_tokenizer(131072),
    )


def _scheduler(variant: Variant) -> Any:
    """The distilled ones predict the image and add fresh noise each step; the full one follows the flow."""
    from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler

    if variant is Variant.full:
        return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return FlowMatchLCMScheduler(shift=6.0 if variant is Variant.dev else 3.0)


def get_own_sampler(model: HiDreamConfig) -> str:
    """Its name in the table of samplers."""
    return "lcm" if is_distilled(model) else "unipc"


def is_distilled(model: HiDreamConfig) -> bool:
    """Whether it takes few steps, of its own sampler."""
    return model.variant is not Variant.full


def encode(
    pipe: DiffusionPipeline, model: HiDreamConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """The prompt as keyword arguments of the pipeline, but for the order of Llama's axes.

    `prompt_embeds_t5` (1, max_sequence_length, width of T5), `prompt_embeds_llama3` (1, layers, max_sequence_length,
    width of Llama), `pooled_prompt_embeds` (1, widths of both CLIPs); with classifier-free guidance also the three
    `negative_*` of the same shapes.
    """
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, sample.negative_prompt) if guided else (sample.prompt,):
        for tokenizer in (pipe.tokenizer, pipe.tokenizer_2, pipe.tokenizer_3, pipe.tokenizer_4):
            refuse_truncation(model, tokenizer, text, model.max_sequence_length, "model.max_sequence_length")
    t5, negative_t5, llama, negative_llama, pooled, negative_pooled = pipe.encode_prompt(
        sample.prompt,
        negative_prompt=sample.negative_prompt,
        do_classifier_free_guidance=guided,
        max_sequence_length=model.max_sequence_length,
    )
    embeddings = {"prompt_embeds_t5": t5, "prompt_embeds_llama3": llama, "pooled_prompt_embeds": pooled}
    if guided:
        embeddings |= {"negative_prompt_embeds_t5": negative_t5, "negative_prompt_embeds_llama3": negative_llama}
        embeddings["negative_pooled_prompt_embeds"] = negative_pooled
    return _llama_turned(embeddings)


def build_arguments(model: HiDreamConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """The pipeline's own: Llama's layers first, (layers, n, tokens, width)."""
    return build_plain_arguments(model, _llama_turned(embeddings), inputs)


def _llama_turned(embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
    """Llama's states with their first two axes exchanged: the pipeline has layers first, we have images first."""
    return {name: x.transpose(0, 1) if "llama3" in name else x for name, x in embeddings.items()}


def prepare(pipe: DiffusionPipeline, inputs: CallInputs) -> None:
    """Has the pipeline keep the size. It would scale every size to the area of `default_sample_size` squared, in
    latents; the factor is a hair above 1, because the result is rounded down to a multiple of 16."""
    pipe.default_sample_size = sqrt(inputs.width * inputs.height) / pipe.vae_scale_factor * (1 + 1e-9)


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Images from latents (n, 16, height / 8, width / 8): numpy uint8 (n, height, width, 3)."""
    return decode_scaled_latents(pipe, latents["latents"])


def get_published_repo(model: HiDreamConfig) -> str:
    """Where the parts come from that a single file lacks."""
    return f"HiDream-ai/HiDream-I1-{model.variant.value.capitalize()}"


def time_embedding(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """What TeaCache watches: the embedded timestep, (n, channels). Blocks get it with the pooled prompt added."""
    return arguments["t_embedder"]


BLOCKS = Blocks(
    # Every block also gets a layer of Llama's states, behind the other tokens; the denoiser cuts it off again.
    lists=(
        image_first("double_stream_blocks"),
        BlockList(name="single_stream_blocks", concatenated=("hidden_states", "encoder_hidden_states")),
    ),
    modulated_input=time_embedding,
    timestep_embedder="t_embedder",
    # Which layer of Llama's states a block gets is found by how many blocks ran before it.
    supports_tail_blocks=False,
)

HIDREAM = register("model", "hidream", HiDreamConfig)(
    Family(
        tasks={"text_to_image": "HiDreamImagePipeline"},
        build=build_pipeline,
        prepare=prepare,
        encode=encode,
        build_arguments=build_arguments,
        unpack_latents=keep_layout,
        decode=decode,
        external_components={
            "text_encoder_4": {"text_encoder_4": "LlamaForCausalLM", "tokenizer_4": "PreTrainedTokenizerFast"}
        },
        published_repo=get_published_repo,
        max_pixels=1024 * 1024,
        tiny_size=64,
        schedule="flow",
        own_sampler=get_own_sampler,
        is_distilled=is_distilled,
        blocks=BLOCKS,
    )
)
