"""FLUX.1-Fill, run with diffusers' FluxFillPipeline: paints a masked part of an image anew, or what lies outside of it.

The architecture is that of FLUX.1-dev with more input channels: beside the noise, each token gets the image without its
masked part, and the mask. What is outside the mask is painted too, like the image but not the same;
`graph=inpaint_overlay` restores its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..family import Family, allow_guidance
from ..text.prompt_length import allow_length
from ..weights import random_init
from . import flux

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

CHANNELS = {"in_channels": 384, "out_channels": 64}
"""Of a token: 64 of noise, 64 of the image, and the mask of its 16 x 16 pixels."""
FULL = random_init.override_configs(flux.FULL, transformer=CHANNELS)
"""As published in the config.json files of https://huggingface.co/black-forest-labs/FLUX.1-Fill-dev."""
TINY = random_init.override_configs(flux.TINY, transformer=CHANNELS)


@dataclass(kw_only=True)
class FluxFillConfig(ModelConfig):
    """Options of FLUX.1-Fill-dev."""

    name: str = "flux_fill"
    max_sequence_length: int = 512
    """Tokens of the T5 encoder, at most 512. Shorter prompts are padded to it."""
    guidance: Guidance = Guidance.embedded
    strength: float = 1.0
    """Below 1 it starts from the image with some noise, as other inpainting does. It was trained to start from noise
    alone."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 512)
        allow_guidance(self, Guidance.embedded)
        if self.guidance_scale is None:
            raise ConfigError("model.guidance_scale=null: FLUX.1-Fill-dev needs a number; it was published with 30")


def build_pipeline(model: FluxFillConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `FluxFillPipeline` with random weights."""
    return flux.build_random(model, dtype, device, "FluxFillPipeline", TINY if model.init is Init.tiny else FULL)


def check(model: FluxFillConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for a denoiser without an input for the mask."""
    flux.check(model, pipe)
    channels = pipe.transformer.config.in_channels
    if channels != CHANNELS["in_channels"]:
        raise RunError(
            f"model.repo={model.repo}: its denoiser takes {channels} channels, and FLUX.1-Fill-dev "
            f"{CHANNELS['in_channels']}; use model=flux, whose graph=inpaint needs no input for the mask"
        )


FLUX_FILL = register("model", "flux_fill", FluxFillConfig)(
    Family(
        tasks={"inpaint": "FluxFillPipeline"},
        build=build_pipeline,
        check=check,
        encode=flux.encode,
        unpack_latents=flux.unpack_latents,
        decode=flux.decode,
        published_repo=lambda model: "black-forest-labs/FLUX.1-Fill-dev",
        single_file_prefixes=flux.WHOLE_FILE,
        own_sampler=lambda model: "euler",
        adapters=("lora", "textual_inversion"),
        blocks=flux.BLOCKS,
    )
)
