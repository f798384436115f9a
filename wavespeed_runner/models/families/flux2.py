"""FLUX.2: dev by way of diffusers' Flux2Pipeline, klein by way of Flux2KleinPipeline.

One architecture; the text encoders differ, and what `guidance_scale` does. Images that these pipelines take as
`image` are references to draw from, not a start to paint over, so klein's inpainting is the one task of ours beside
text to image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..block_layouts import text_first
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..pipeline_call import to_uint8_images
from ..text import encoders
from ..text.prompt_length import refuse_truncation
from ..weights import random_init

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
    "latent_channels": 32,
    "norm_num_groups": 32,
    "sample_size": 1024,
}
TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 8,
    "num_single_layers": 48,
    "attention_head_dim": 128,
    "num_attention_heads": 48,
    "joint_attention_dim": 15360,
    "mlp_ratio": 3.0,
    "axes_dims_rope": (32, 32, 32, 32),
    "rope_theta": 2000,
    "guidance_embeds": True,
}
DEV: random_init.ComponentSpecs = {
    "transformer": ("Flux2Transformer2DModel", TRANSFORMER),
    "vae": ("AutoencoderKLFlux2", VAE),
    "text_encoder": encoders.MISTRAL_SMALL,
}
"""FLUX.2-dev as published: the config.json files of https://huggingface.co/black-forest-labs/FLUX.2-dev."""

KLEIN: random_init.ComponentSpecs = random_init.override_configs(
    DEV | {"text_encoder": encoders.qwen3(2560, ff=9728, tied=True)},
    transformer={
        "num_layers": 5,
        "num_single_layers": 20,
        "num_attention_heads": 24,
        "joint_attention_dim": 7680,
        "guidance_embeds": False,
    },
)
"""FLUX.2-klein-4B as published: https://huggingface.co/black-forest-labs/FLUX.2-klein-4B."""

TINY_TRANSFORMER: dict[str, Any] = {
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": 96,
    "axes_dims_rope": (4, 4, 4, 4),
}
TINY_VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 128,
}
_MISTRAL = encoders.TINY_MISTRAL["text_config"] | {"num_hidden_layers": 31}
TINY_DEV = random_init.override_configs(
    DEV,
    transformer=TINY_TRANSFORMER,
    vae=TINY_VAE,
    text_encoder=encoders.TINY_MISTRAL | {"text_config": _MISTRAL},
)
TINY_KLEIN = random_init.override_configs(
    KLEIN,
    transformer=TINY_TRANSFORMER,
    vae=TINY_VAE,
    text_encoder=encoders.TINY_LLM | {"num_hidden_layers": 28},
)
"""Every part kept, each with few and narrow layers, but the text encoders so many that the pipeline finds the hidden
states that it reads: after layers 10, 20 and 30 of Mistral, 9, 18 and 27 of Qwen3. Latents keep their channels and
their part of the size."""


@dataclass(kw_only=True)
class Flux2Config(ModelConfig):
    name: str = "flux2"
    max_sequence_length: int = 512
    """Tokens that prompts are padded to, with the chat around them. The padding is attended to, so it must be what the
    model was trained with."""
    guidance: Guidance = Guidance.embedded

    def __post_init__(self) -> None:
        _positive_length(self.max_sequence_length)
        allow_guidance(self, Guidance.embedded)
        if self.guidance_scale is None:
            raise ConfigError("model.guidance_scale=null: FLUX.2-dev needs a number; 4 is its own")


@dataclass(kw_only=True)
class Flux2KleinConfig(ModelConfig):
    name: str = "flux2_klein"
    max_sequence_length: int = 512
    """As for `flux2`."""
    guidance: Guidance = Guidance.none
    """`none` of the distilled models, `true_cfg` of the base ones."""

    def __post_init__(self) -> None:
        _positive_length(self.max_sequence_length)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def _positive_length(length: int) -> None:
    if length < 1:
        raise ConfigError(f"model.max_sequence_length={length}: at least 1 is needed")


def _scheduler() -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def build_dev(model: Flux2Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """A `Flux2Pipeline` of random weights. A plain tokenizer stands in for the processor, whose images no prompt of
    ours has."""
    return random_init.build_random_pipeline(
        "Flux2Pipeline",
        TINY_DEV if model.init is Init.tiny else DEV,
        dtype=dtype,
        device=device,
        scheduler=_scheduler(),
        tokenizer=encoders.build_chat_tokenizer(4096),
    )


def build_klein(model: Flux2KleinConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """A `Flux2KleinPipeline` of random weights: distilled if the model takes no guidance."""
    return random_init.build_random_pipeline(
        "Flux2KleinPipeline",
        TINY_KLEIN if model.init is Init.tiny else KLEIN,
        dtype=dtype,
        device=device,
        scheduler=_scheduler(),
        tokenizer=encoders.build_chat_tokenizer(4096),
        is_distilled=model.guidance is Guidance.none,
    )


def check_klein(model: Flux2KleinConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` when `model.guidance` is not that of the weights: distilled ones would leave it unused."""
    distilled = bool(pipe.config.is_distilled)
    if distilled != (model.guidance is Guidance.none):
        allowed = "none" if distilled else "true_cfg"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}, take {allowed}")


def encode_dev(
    pipe: DiffusionPipeline, model: Flux2Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """`prompt_embeds` (1, max_sequence_length, 3 * width): three layers' hidden states side by side."""
    from diffusers.pipelines.flux2.pipeline_flux2 import format_input

    chats = format_input([sample.prompt], system_message=pipe.system_message)
    ids = pipe.tokenizer.apply_chat_template(chats, add_generation_prompt=False, tokenize=True, return_dict=True)
    _refuse_truncation(pipe, model, sample.prompt, len(ids["input_ids"][0]))
    embeds, _ = pipe.encode_prompt(sample.prompt, max_sequence_length=model.max_sequence_length)
    return {"prompt_embeds": embeds}


def encode_klein(
    pipe: DiffusionPipeline, model: Flux2KleinConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """`prompt_embeds` (1, max_sequence_length, 3 * width); with classifier-free guidance the negative ones too."""
    prompts = {"prompt_embeds": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_prompt_embeds"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for name, text in prompts.items():
        chat = pipe.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        _refuse_truncation(pipe, model, text, len(pipe.tokenizer(chat).input_ids))
        embeddings[name], _ = pipe.encode_prompt(text, max_sequence_length=model.max_sequence_length)
    return embeddings


def _refuse_truncation(pipe: DiffusionPipeline, model: Flux2Config | Flux2KleinConfig, text: str, tokens: int) -> None:
    refuse_truncation(
        model, pipe.tokenizer, text, model.max_sequence_length, "model.max_sequence_length", tokens=tokens
    )


def build_klein_arguments(model: Flux2KleinConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """1 is no guidance; left out, the pipeline would take 4."""
    scale = inputs.guidance_scale if uses_cfg(model, inputs.guidance_scale) else 1.0
    return {**embeddings, "guidance_scale": scale}


def decode_dev(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Images from packed latents (n, height / 16 * width / 16, 128): numpy uint8 (n, height, width, 3)."""
    import torch

    packed = latents["latents"]
    # Their places are those of all tokens of an image in reading order.
    ids = pipe._prepare_latent_ids(torch.empty(len(packed), 1, height // 16, width // 16)).to(packed.device)
    grid = pipe._unpack_latents_with_ids(packed, ids)
    norm = pipe.vae.bn
    mean = norm.running_mean.view(1, -1, 1, 1).to(grid.device, grid.dtype)
    deviation = torch.sqrt(norm.running_var.view(1, -1, 1, 1) + pipe.vae.config.batch_norm_eps)
    grid = pipe._unpatchify_latents(grid * deviation.to(grid.device, grid.dtype) + mean)
    return to_uint8_images(pipe, pipe.vae.decode(grid, return_dict=False)[0])


def decode_klein(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Images from latents (n, 32, height / 8, width / 8): klein's pipelines undo packing and scale themselves."""
    return to_uint8_images(pipe, pipe.vae.decode(latents["latents"], return_dict=False)[0])


def get_published_repo(model: Flux2Config | Flux2KleinConfig) -> str:
    """Where the parts come from that a single file lacks."""
    variant = {Guidance.embedded: "dev", Guidance.none: "klein-4B", Guidance.true_cfg: "klein-base-4B"}
    return f"black-forest-labs/FLUX.2-{variant[model.guidance]}"


def modulated_input(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """What TeaCache watches: image tokens as the first block's attention gets them, (n, tokens, channels)."""
    # Shift, scale and gate of the attention, then of the feed-forward.
    shift, scale = arguments["temb_mod_img"][:, None].chunk(6, dim=-1)[:2]
    return (1 + scale) * block.norm1(streams["hidden_states"]) + shift


BLOCKS = Blocks(
    lists=(
        text_first("transformer_blocks"),
        BlockList(name="single_transformer_blocks", concatenated=("encoder_hidden_states", "hidden_states")),
    ),
    modulated_input=modulated_input,
)

FLUX2 = register("model", "flux2", Flux2Config)(
    Family(
        tasks={"text_to_image": "Flux2Pipeline"},
        build=build_dev,
        encode=encode_dev,
        decode=decode_dev,
        published_repo=get_published_repo,
        blocks=BLOCKS,
    )
)

FLUX2_KLEIN = register("model", "flux2_klein", Flux2KleinConfig)(
    Family(
        tasks={"text_to_image": "Flux2KleinPipeline", "inpaint": "Flux2KleinInpaintPipeline"},
        build=build_klein,
        check=check_klein,
        encode=encode_klein,
        build_arguments=build_klein_arguments,
        decode=decode_klein,
        published_repo=get_published_repo,
        own_sampler=lambda model: "euler",
        is_distilled=lambda model: model.guidance is Guidance.none,
        blocks=BLOCKS,
    )
)
