"""FLUX.2: dev run with diffusers' Flux2Pipeline, klein with Flux2KleinPipeline.

They share one architecture; the text encoder and the meaning of `guidance_scale` differ. These pipelines take `image`
as a reference to draw from, not as a start image, so the only other task here is inpainting with klein.
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
from .flux2_architectures import DEV, KLEIN, KLEIN_9B, TINY_DEV, TINY_KLEIN, KleinVariant

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline, SchedulerMixin
    from torch import Tensor


@dataclass(kw_only=True)
class Flux2Config(ModelConfig):
    """Options of FLUX.2-dev."""

    name: str = "flux2"
    max_sequence_length: int = 512
    """Tokens that prompts are padded to, chat template included. The model attends to the padding, so this must be the
    length it was trained with."""
    guidance: Guidance = Guidance.embedded

    def __post_init__(self) -> None:
        _check_length(self.max_sequence_length)
        allow_guidance(self, Guidance.embedded)
        if self.guidance_scale is None:
            raise ConfigError("model.guidance_scale=null: FLUX.2-dev needs a number; it was published with 4")


@dataclass(kw_only=True)
class Flux2KleinConfig(ModelConfig):
    """Options of FLUX.2-klein."""

    name: str = "flux2_klein"
    variant: KleinVariant = KleinVariant.klein_4b
    """The size that `repo` has. `init=random` builds it, and it supplies the components that a single file lacks."""
    max_sequence_length: int = 512
    """As for `flux2`."""
    guidance: Guidance = Guidance.none
    """`none` for the distilled models, `true_cfg` for the base models."""

    def __post_init__(self) -> None:
        _check_length(self.max_sequence_length)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def _check_length(length: int) -> None:
    if length < 1:
        raise ConfigError(f"model.max_sequence_length={length}: must be at least 1")


def _build_scheduler() -> SchedulerMixin:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True)


def build_dev(model: Flux2Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `Flux2Pipeline` with random weights.

    A plain tokenizer stands in for the processor, because prompts here contain no images.
    """
    return random_init.build_random_pipeline(
        "Flux2Pipeline",
        TINY_DEV if model.init is Init.tiny else DEV,
        dtype=dtype,
        device=device,
        scheduler=_build_scheduler(),
        tokenizer=encoders.build_chat_tokenizer(4096),
    )


def build_klein(model: Flux2KleinConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `Flux2KleinPipeline` with random weights, distilled if the model takes no guidance."""
    return random_init.build_random_pipeline(
        "Flux2KleinPipeline",
        TINY_KLEIN if model.init is Init.tiny else KLEIN_9B if model.variant is KleinVariant.klein_9b else KLEIN,
        dtype=dtype,
        device=device,
        scheduler=_build_scheduler(),
        tokenizer=encoders.build_chat_tokenizer(4096),
        is_distilled=model.guidance is Guidance.none,
    )


def check_klein(model: Flux2KleinConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` if `model.guidance` does not fit the weights: distilled ones would ignore the scale."""
    is_distilled = bool(pipe.config.is_distilled)
    if is_distilled != (model.guidance is Guidance.none):
        allowed = "none" if is_distilled else "true_cfg"
        raise RunError(f"model.guidance={model.guidance.value}: does not fit model.repo={model.repo}; use {allowed}")


def encode_dev(
    pipe: DiffusionPipeline, model: Flux2Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt: `prompt_embeds` (1, max_sequence_length, 3 * width), three layers' states concatenated."""
    from diffusers.pipelines.flux2.pipeline_flux2 import format_input

    chats = format_input([sample.prompt], system_message=pipe.system_message)
    ids = pipe.tokenizer.apply_chat_template(chats, add_generation_prompt=False, tokenize=True, return_dict=True)
    _refuse_truncation(pipe, model, sample.prompt, len(ids["input_ids"][0]))
    embeds, _ = pipe.encode_prompt(sample.prompt, max_sequence_length=model.max_sequence_length)
    return {"prompt_embeds": embeds}


def encode_klein(
    pipe: DiffusionPipeline, model: Flux2KleinConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt: `prompt_embeds` (1, max_sequence_length, 3 * width); with guidance the negative ones too."""
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
    """Embeddings and guidance. No guidance is passed as 1, because the pipeline's default is 4."""
    scale = inputs.guidance_scale if uses_cfg(model, inputs.guidance_scale) else 1.0
    return {**embeddings, "guidance_scale": scale}


def decode_dev(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes packed latents (n, height / 16 * width / 16, 128): uint8 (n, height, width, 3)."""
    import torch

    packed = latents["latents"]
    # Token positions of a whole image, in reading order.
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
    """Decodes latents (n, 32, height / 8, width / 8), which klein's pipelines have unpacked and scaled back."""
    return to_uint8_images(pipe, pipe.vae.decode(latents["latents"], return_dict=False)[0])


def get_published_repo(model: Flux2Config | Flux2KleinConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    if isinstance(model, Flux2Config):
        return "black-forest-labs/FLUX.2-dev"
    size = {KleinVariant.klein_4b: "4B", KleinVariant.klein_9b: "9B"}[model.variant]
    return f"black-forest-labs/FLUX.2-klein-{'' if model.guidance is Guidance.none else 'base-'}{size}"


def modulated_input(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: image tokens as the attention of the first block receives them, (n, tokens, channels)."""
    # Shift, scale and gate of the attention, then those of the feed-forward.
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
