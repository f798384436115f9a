"""Wan 2.1 and 2.2, run with diffusers' WanPipeline and WanImageToVideoPipeline.

There are five families, because checkpoints differ in their tasks: `wan` and `wan22` are text-to-video, `wan_i2v` and
`wan22_i2v` are image-to-video, `wan22_5b` does both. `wan22` and `wan22_i2v` have two transformers, one for the steps
of high noise and one for the rest. Paper: https://arxiv.org/abs/2503.20314
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance, build_plain_arguments, uses_cfg
from ..pipeline_call import to_uint8_videos
from ..text.prompt_length import refuse_truncation
from ..weights import byte_tokenizer, random_init
from .wan_architectures import VARIANTS, WanVariant

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


@dataclass(kw_only=True)
class WanConfig(ModelConfig):
    """Options of Wan 2.1 text-to-video."""

    name: str = "wan"
    variant: WanVariant = WanVariant.t2v_14b
    """The published checkpoint that `repo` is or derives from. `init=random` and `init=tiny` build its architecture,
    and it supplies the components that a single file lacks."""
    shift: float | None = None
    """Of the noise levels, for the model's own scheduler and all that follow it. Null: what `repo` says. The makers'
    scripts and their diffusers repositories differ, see the YAML files."""
    max_sequence_length: int = 512
    """Tokens of the UMT5 encoder, at most 512. Shorter prompts are padded to it, as in training."""
    variants: ClassVar[tuple[WanVariant, ...]] = (WanVariant.t2v_1_3b, WanVariant.t2v_14b)

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        if not 1 <= self.max_sequence_length <= 512:
            raise ConfigError(f"model.max_sequence_length={self.max_sequence_length}: allowed: 1 to 512")
        if self.shift is not None and not self.shift > 0:
            raise ConfigError(f"model.shift={self.shift:g}: must be above 0; null takes the repository's")
        if self.variant not in self.variants:
            names = ", ".join(variant.value for variant in self.variants)
            raise ConfigError(f"model.variant={self.variant.value}: model.name={self.name} has {names}")


@dataclass(kw_only=True)
class WanI2VConfig(WanConfig):
    """Options of Wan 2.1 image-to-video."""

    name: str = "wan_i2v"
    variant: WanVariant = WanVariant.i2v_480p
    variants: ClassVar[tuple[WanVariant, ...]] = (WanVariant.i2v_480p, WanVariant.i2v_720p)


@dataclass(kw_only=True)
class Wan22Config(WanConfig):
    """Options of Wan 2.2 text-to-video with two transformers."""

    name: str = "wan22"
    variant: WanVariant = WanVariant.t2v_a14b
    guidance_scale_2: float | None = None
    """Classifier-free guidance of the transformer for low noise; null: `guidance_scale` for both."""
    variants: ClassVar[tuple[WanVariant, ...]] = (WanVariant.t2v_a14b,)


@dataclass(kw_only=True)
class Wan22I2VConfig(Wan22Config):
    """Options of Wan 2.2 image-to-video with two transformers."""

    name: str = "wan22_i2v"
    variant: WanVariant = WanVariant.i2v_a14b
    variants: ClassVar[tuple[WanVariant, ...]] = (WanVariant.i2v_a14b,)


@dataclass(kw_only=True)
class Wan22TI2VConfig(WanConfig):
    """Options of Wan 2.2 5B, text- or image-to-video."""

    name: str = "wan22_5b"
    variant: WanVariant = WanVariant.ti2v_5b
    variants: ClassVar[tuple[WanVariant, ...]] = (WanVariant.ti2v_5b,)


def build_pipeline(model: WanConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a pipeline with random weights, of the class that the variant was published with."""
    from diffusers import UniPCMultistepScheduler

    shapes = VARIANTS[model.variant]
    specs = shapes.tiny if model.init is Init.tiny else shapes.full
    starts_from_image = model.variant not in (WanVariant.ti2v_5b, *WanConfig.variants, *Wan22Config.variants)
    processor = {}
    if "image_encoder" in specs:
        from transformers import CLIPImageProcessor

        processor["image_processor"] = CLIPImageProcessor()
    return random_init.build_random_pipeline(
        "WanImageToVideoPipeline" if starts_from_image else "WanPipeline",
        specs,
        dtype=dtype,
        device=device,
        float32=FLOAT32,
        scheduler=UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shapes.flow_shift
        ),
        tokenizer=byte_tokenizer.build_t5_tokenizer(512),
        **processor,
        **shapes.options,
    )


def check(model: WanConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for weights of another Wan family: other input channels, or another number of transformers."""
    channels, transformers = pipe.transformer.config.in_channels, 1 if pipe.config.boundary_ratio is None else 2
    expected = VARIANTS[model.variant].channels, 2 if isinstance(model, Wan22Config) else 1
    if (channels, transformers) != expected:
        raise RunError(
            f"model.repo={model.repo}: it has {transformers} transformer(s) that take {channels} channels, but "
            f"model.name={model.name} has {expected[1]} that take {expected[0]}; use the model option that "
            "fits this repository"
        )


def encode(
    pipe: DiffusionPipeline, model: WanConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of UMT5); with classifier-free guidance also `negative_prompt_embeds`
    of the same shape.
    """
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, *([sample.negative_prompt] if guided else [])):
        refuse_truncation(model, pipe.tokenizer, text, model.max_sequence_length, "model.max_sequence_length")
    embeds, negative = pipe.encode_prompt(
        sample.prompt, sample.negative_prompt, guided, max_sequence_length=model.max_sequence_length
    )
    return {"prompt_embeds": embeds} | ({"negative_prompt_embeds": negative} if guided else {})


def build_arguments_22(model: Wan22Config, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings and guidance, that of the second transformer included."""
    return {**build_plain_arguments(model, embeddings, inputs), "guidance_scale_2": model.guidance_scale_2}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes latents (n, channels, (frames - 1) / 4 + 1, h, w): uint8 (n, frames, height, width, 3)."""
    import torch

    grid = latents["latents"].to(pipe.vae.dtype)
    statistics = pipe.vae.config.latents_mean, pipe.vae.config.latents_std
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1, 1).to(grid.device, grid.dtype) for values in statistics)
    # Written as in diffusers, so that the rounding is the same.
    return to_uint8_videos(pipe, pipe.vae.decode(grid / (1.0 / deviation) + mean, return_dict=False)[0])


def get_published_repo(model: WanConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return VARIANTS[model.variant].repo


def get_own_sampler(model: WanConfig) -> str:
    """Name of the sampler that the makers' repositories hold; empty for fine-tunes, which may come with another."""
    return "" if model.init is Init.pretrained and model.repo != get_published_repo(model) else "unipc"


def get_own_shift(model: WanConfig) -> float:
    """What the makers' diffusers repositories hold; `model.shift` is what their scripts have."""
    return VARIANTS[model.variant].flow_shift


FLOAT32 = ("vae", "image_encoder")
"""As in the model cards: in half precision both visibly lose quality."""
COMMON: dict[str, Any] = {
    "build": build_pipeline,
    "check": check,
    "encode": encode,
    "decode": decode,
    "published_repo": get_published_repo,
    "own_sampler": get_own_sampler,
    "own_shift": get_own_shift,
    "float32_components": FLOAT32,
    "kind": "video",
    "frame_multiple": 4,
    "tiny_size": 64,
}
TEXT_TO_VIDEO = {"text_to_video": "WanPipeline"}
IMAGE_TO_VIDEO = {"image_to_video": "WanImageToVideoPipeline"}


def time_embedding(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: the embedded timestep, (n, channels), or (n, tokens, channels) with a timestep per token."""
    return arguments["condition_embedder"][0]


def time_projection(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache's variant `ret_steps`: six vectors of the timestep.

    (n, 6, channels), or (n, tokens, 6, channels) with a timestep per token.
    """
    return arguments["temb"]


BLOCKS = Blocks(
    lists=(BlockList(name="blocks"),),
    modulated_input=time_embedding,
    variants={"ret_steps": time_projection},
    timestep_embedder="condition_embedder",
)

WAN = register("model", "wan", WanConfig)(Family(tasks=TEXT_TO_VIDEO, blocks=BLOCKS, **COMMON))
# Image-to-video pipelines take one image, not a list: no batches.
WAN_I2V = register("model", "wan_i2v", WanI2VConfig)(
    Family(tasks=IMAGE_TO_VIDEO, blocks=BLOCKS, supports_batches=False, **COMMON)
)
TWO_TRANSFORMERS: dict[str, Any] = {
    "build_arguments": build_arguments_22,
    "denoiser_2": "transformer_2",
    "blocks": BLOCKS,
}
WAN22 = register("model", "wan22", Wan22Config)(Family(tasks=TEXT_TO_VIDEO, **TWO_TRANSFORMERS, **COMMON))
WAN22_I2V = register("model", "wan22_i2v", Wan22I2VConfig)(
    Family(tasks=IMAGE_TO_VIDEO, supports_batches=False, **TWO_TRANSFORMERS, **COMMON)
)
WAN22_5B = register("model", "wan22_5b", Wan22TI2VConfig)(
    Family(tasks=TEXT_TO_VIDEO | IMAGE_TO_VIDEO, blocks=BLOCKS, supports_batches=False, size_multiple=32, **COMMON)
)
