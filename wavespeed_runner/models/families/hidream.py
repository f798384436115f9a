"""HiDream-I1, run with diffusers' HiDreamImagePipeline: a sparse mixture of experts with four text encoders.

Paper: https://arxiv.org/abs/2505.22705.
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
from ..weights import byte_tokenizer, random_init
from .hidream_architectures import FULL, TINY

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline, SchedulerMixin
    from torch import Tensor


class Variant(Enum):
    """The published checkpoints."""

    full = "full"
    dev = "dev"
    """Distilled: 28 steps, no guidance."""
    fast = "fast"
    """Distilled: 16 steps, no guidance."""


@dataclass(kw_only=True)
class HiDreamConfig(ModelConfig):
    """Options of HiDream-I1."""

    name: str = "hidream"
    variant: Variant = Variant.full
    text_encoder_4: str | None = "meta-llama/Llama-3.1-8B-Instruct"
    """Hub id or folder of Llama and its tokenizer, which HiDream's repositories lack. Null: they are in `repo`."""
    max_sequence_length: int = 128
    """Tokens that each text encoder reads, at most 218."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 218)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: HiDreamConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `HiDreamImagePipeline` with random weights and the scheduler of the variant."""
    return random_init.build_random_pipeline(
        "HiDreamImagePipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=_build_scheduler(model.variant),
        tokenizer=byte_tokenizer.build_clip_tokenizer(248),
        tokenizer_2=byte_tokenizer.build_clip_tokenizer(248, pad="!"),
        tokenizer_3=byte_tokenizer.build_t5_tokenizer(512),
        tokenizer_4=encoders.build_llama_tokenizer(131072),
    )


def _build_scheduler(variant: Variant) -> SchedulerMixin:
    """LCM for the distilled variants, which add fresh noise in each step; UniPC for the full one."""
    from diffusers import FlowMatchLCMScheduler, UniPCMultistepScheduler

    if variant is Variant.full:
        return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0)
    return FlowMatchLCMScheduler(shift=6.0 if variant is Variant.dev else 3.0)


def get_own_sampler(model: HiDreamConfig) -> str:
    """Name of the published scheduler in the table of samplers."""
    return "lcm" if is_distilled(model) else "unipc"


def is_distilled(model: HiDreamConfig) -> bool:
    """True for the variants that were distilled to few steps of their own sampler."""
    return model.variant is not Variant.full


def encode(
    pipe: DiffusionPipeline, model: HiDreamConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline, except for the order of Llama's axes.

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
    return _swap_llama_axes(embeddings)


def build_arguments(model: HiDreamConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings and guidance, with Llama's states as the pipeline takes them: (layers, n, tokens, width)."""
    return build_plain_arguments(model, _swap_llama_axes(embeddings), inputs)


def _swap_llama_axes(embeddings: dict[str, Tensor]) -> dict[str, Tensor]:
    """Swaps the first two axes of Llama's states: layers come first in the pipeline, images in stored embeddings."""
    return {name: x.transpose(0, 1) if "llama3" in name else x for name, x in embeddings.items()}


def prepare(pipe: DiffusionPipeline, inputs: CallInputs) -> None:
    """Makes the pipeline keep the requested size.

    It scales every size to the area of `default_sample_size` squared, in latents. The factor just above 1 keeps the
    result, which it rounds down to a multiple of 16, from falling to the next lower one.
    """
    pipe.default_sample_size = sqrt(inputs.width * inputs.height) / pipe.vae_scale_factor * (1 + 1e-9)


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 16, height / 8, width / 8): uint8 (n, height, width, 3)."""
    return decode_scaled_latents(pipe, latents["latents"])


def get_published_repo(model: HiDreamConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return f"HiDream-ai/HiDream-I1-{model.variant.value.capitalize()}"


def time_embedding(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: the embedded timestep, (n, channels), before the pooled prompt is added."""
    return arguments["t_embedder"]


BLOCKS = Blocks(
    # Every block also gets one layer of Llama's states behind its tokens; the denoiser removes it after the block.
    lists=(
        image_first("double_stream_blocks"),
        BlockList(name="single_stream_blocks", concatenated=("hidden_states", "encoder_hidden_states")),
    ),
    modulated_input=time_embedding,
    timestep_embedder="t_embedder",
    # The denoiser selects the layer of Llama's states by counting the blocks before.
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
