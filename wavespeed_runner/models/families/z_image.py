"""Z-Image and Z-Image-Turbo, run with diffusers' ZImagePipeline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError
from ...registry import register
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..pipeline_call import to_uint8_images
from ..text import encoders
from ..text.prompt_length import refuse_truncation
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
        "ZImageTransformer2DModel",
        {
            "in_channels": 16,
            "dim": 3840,
            "n_layers": 30,
            "n_refiner_layers": 2,
            "n_heads": 30,
            "n_kv_heads": 30,
            "cap_feat_dim": 2560,
            "axes_dims": [32, 48, 48],
        },
    ),
    "vae": FLUX_FULL["vae"],
    "text_encoder": encoders.qwen3(2560, ff=9728, tied=True, class_name="Qwen3Model"),
}
"""Z-Image as published in the config.json files of https://huggingface.co/Tongyi-MAI/Z-Image. Its autoencoder is that
of FLUX.1."""

TINY = random_init.override_configs(
    FULL | {"vae": FLUX_TINY["vae"]},
    transformer={
        "dim": 64,
        "n_layers": 2,
        "n_heads": 4,
        "n_kv_heads": 4,
        "cap_feat_dim": 32,
        "axes_dims": [4, 6, 6],
    },
    text_encoder=encoders.TINY_LLM,
)
"""Every component, each with few and narrow layers. Latents keep their 16 channels and 1/8 of the size."""

NO_GUIDANCE = 0.0
"""`guidance_scale` without effect: predictions are prompt + guidance_scale * (prompt - negative prompt)."""


@dataclass(kw_only=True)
class ZImageConfig(ModelConfig):
    """Options of Z-Image and Z-Image-Turbo."""

    name: str = "z_image"
    max_sequence_length: int = 512
    """Prompt tokens that are read, chat template included. Shorter prompts are not padded."""

    def __post_init__(self) -> None:
        if self.max_sequence_length < 1:
            raise ConfigError(f"model.max_sequence_length={self.max_sequence_length}: must be at least 1")
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: ZImageConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `ZImagePipeline` with random weights and the noise levels of Z-Image, or Turbo's without guidance."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return random_init.build_random_pipeline(
        "ZImagePipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0 if model.guidance is Guidance.none else 6.0),
        tokenizer=encoders.build_chat_tokenizer(4096),
    )


def encode(
    pipe: DiffusionPipeline, model: ZImageConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt: `prompt_embeds` (1, tokens, width), with guidance also `negative_prompt_embeds`."""
    prompts = {"prompt_embeds": sample.prompt}
    if uses_cfg(model, guidance_scale, off=NO_GUIDANCE):
        prompts["negative_prompt_embeds"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for name, text in prompts.items():
        chat = pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=True
        )
        tokens = len(pipe.tokenizer(chat).input_ids)
        refuse_truncation(
            model, pipe.tokenizer, text, model.max_sequence_length, "model.max_sequence_length", tokens=tokens
        )
        embeds, _ = pipe.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=model.max_sequence_length
        )
        embeddings[name] = embeds[0][None]
    return embeddings


def build_arguments(model: ZImageConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings as lists with one tensor per prompt, which may have different lengths, and guidance."""
    scale = inputs.guidance_scale if uses_cfg(model, inputs.guidance_scale, off=NO_GUIDANCE) else NO_GUIDANCE
    return {**{name: list(rows) for name, rows in embeddings.items()}, "guidance_scale": scale}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, 16, height / 8, width / 8): uint8 (n, height, width, 3)."""
    grid = latents["latents"].to(pipe.vae.dtype) / pipe.vae.config.scaling_factor + pipe.vae.config.shift_factor
    return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])


def get_published_repo(model: ZImageConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return f"Tongyi-MAI/Z-Image{'-Turbo' if model.guidance is Guidance.none else ''}"


def modulated_input(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: all tokens as the attention of the first block receives them, (n, tokens, channels)."""
    scale = block.adaLN_modulation(arguments["adaln_input"])[:, None].chunk(4, dim=2)[0]
    return block.attention_norm1(streams["hidden_states"]) * (1 + scale)


# No `unpacked`: diffusers 0.42 has the image-to-image pipeline take latents for an image and resize them.
Z_IMAGE = register("model", "z_image", ZImageConfig)(
    Family(
        tasks={
            "text_to_image": "ZImagePipeline",
            "image_to_image": "ZImageImg2ImgPipeline",
            "inpaint": "ZImageInpaintPipeline",
        },
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        decode=decode,
        published_repo=get_published_repo,
        own_sampler=lambda model: "euler",
        is_distilled=lambda model: model.guidance is Guidance.none,
        unguided_scale=NO_GUIDANCE,
        why_not_float16=lambda model: "https://github.com/Tongyi-MAI/Z-Image/issues/14",
        # Image and prompt tokens are one sequence before these blocks.
        blocks=Blocks(lists=(BlockList(name="layers", streams=("x",)),), modulated_input=modulated_input),
    )
)
