"""Lumina-Image 2.0, run with diffusers' Lumina2Pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError
from ...registry import register
from ..block_layouts import modulate_with_norm1
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance
from ..pipeline_call import to_uint8_images
from ..text.gemma import GEMMA2, TINY_GEMMA2, build_gemma_tokenizer
from ..text.prompt_length import allow_length, encode_with_mask, list_prompts, refuse_truncation
from ..weights import random_init
from .flux import FULL as FLUX_FULL
from .flux import TINY as FLUX_TINY

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "Lumina2Transformer2DModel",
        {
            "sample_size": 128,
            "hidden_size": 2304,
            "num_layers": 26,
            "num_refiner_layers": 2,
            "num_attention_heads": 24,
            "num_kv_heads": 8,
            "axes_dim_rope": (32, 32, 32),
            "axes_lens": (300, 512, 512),
            "cap_feat_dim": 2304,
        },
    ),
    "vae": FLUX_FULL["vae"],
    "text_encoder": GEMMA2,
}
"""As published in the config.json files of https://huggingface.co/Alpha-VLLM/Lumina-Image-2.0. Its autoencoder is that
of FLUX.1."""

TINY = random_init.override_configs(
    FULL | {"vae": FLUX_TINY["vae"]},
    transformer={
        "hidden_size": 64,
        "num_layers": 2,
        "num_attention_heads": 4,
        "num_kv_heads": 2,
        "multiple_of": 16,
        "axes_dim_rope": (4, 6, 6),
        "cap_feat_dim": 32,
    },
    text_encoder=TINY_GEMMA2,
)
"""Every component, each with few and narrow layers. Latents keep their 16 channels and 1/8 of the size."""


@dataclass(kw_only=True)
class Lumina2Config(ModelConfig):
    """Options of Lumina-Image 2.0."""

    name: str = "lumina2"
    max_sequence_length: int = 256
    """Tokens that prompts are padded to, system prompt included."""
    cfg_trunc_ratio: float = 1.0
    """Share of the steps, from the first one, that are guided; the others cost half."""
    cfg_normalization: bool = True
    """Rescales guided predictions to the norm of the unguided ones."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 256)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        if not 0 <= self.cfg_trunc_ratio <= 1:
            raise ConfigError(f"model.cfg_trunc_ratio={self.cfg_trunc_ratio}: allowed: 0 to 1")


def build_pipeline(model: Lumina2Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `Lumina2Pipeline` with random weights and the published noise levels."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return random_init.build_random_pipeline(
        "Lumina2Pipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=6.0),
        tokenizer=build_gemma_tokenizer(),
    )


def encode(
    pipe: DiffusionPipeline, model: Lumina2Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as `encode_with_mask` does. Only the positive prompt gets the system prompt in front."""
    limit, key = model.max_sequence_length, "model.max_sequence_length"
    prompt = f"{pipe.system_prompt} <Prompt Start> {sample.prompt}"
    refuse_truncation(model, pipe.tokenizer, sample.prompt, limit, key, tokens=len(pipe.tokenizer(prompt).input_ids))
    for negative in list_prompts(model, sample, guidance_scale)[1:]:
        refuse_truncation(model, pipe.tokenizer, negative, limit, key)
    return encode_with_mask(pipe, model, sample, guidance_scale)


def build_arguments(model: Lumina2Config, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings and guidance. No guidance is passed as 1, because the pipeline's default is 4."""
    cfg = {"cfg_trunc_ratio": model.cfg_trunc_ratio, "cfg_normalization": model.cfg_normalization}
    scale = 1.0 if inputs.guidance_scale is None else inputs.guidance_scale
    return {**embeddings, **cfg, "guidance_scale": scale, "max_sequence_length": model.max_sequence_length}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 16, height / 8, width / 8): uint8 (n, height, width, 3)."""
    grid = latents["latents"] / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])


def get_published_repo(model: Lumina2Config) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return "Alpha-VLLM/Lumina-Image-2.0"


def time_embedding(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache's variant `comfy`: the embedded timestep, (n, channels)."""
    return arguments["temb"]


LUMINA2 = register("model", "lumina2", Lumina2Config)(
    Family(
        tasks={"text_to_image": "Lumina2Pipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        decode=decode,
        published_repo=get_published_repo,
        # The pipeline cuts prompts to the longest of the batch, so another prompt would change the padding of this one.
        supports_batches=False,
        # Prompt and image tokens are one sequence before these blocks.
        blocks=Blocks(
            lists=(BlockList(name="layers"),), modulated_input=modulate_with_norm1, variants={"comfy": time_embedding}
        ),
    )
)
