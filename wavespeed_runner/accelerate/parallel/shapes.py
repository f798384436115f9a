"""How each family's denoiser follows from its options: whose configuration it has, and how images become tokens.

Data for `geometry`. Families that are not here have layers of other kinds, and nothing is predicted for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...config.schema import Init
from ...models.families import (
    chroma,
    cogvideox,
    flux,
    flux2_architectures,
    flux_fill,
    hunyuan_video,
    hunyuan_video15_architectures,
    ltx_video_architectures,
    qwen_image,
    sd3,
    wan_architectures,
)

Config = Mapping[str, Any]
"""A transformer's config.json."""

PROMPT_TOKENS = 64
"""Taken for the length of a prompt where the model reads it at its own length."""


def _read_length(model: Any) -> int:
    """Tokens of the prompt: padded to a fixed length."""
    return int(model.max_sequence_length)


def _get_inputs(config: Config) -> int:
    return int(config["in_channels"])


def _get_outputs(config: Config) -> int:
    return int(config["out_channels"])


def _get_patches(config: Config) -> int:
    """A token is 2 x 2 latents."""
    return 4 * int(config["out_channels"])


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A family's denoiser."""

    configs: Callable[[Any], tuple[Config, Config]]
    """(model) -> the published configuration of its transformer, and that of `init=tiny`."""
    text: Callable[[Any], int] = _read_length
    """(model) -> tokens of the prompt."""
    pixels: int = 16
    """Width and height of the square that is a token."""
    vae_blocks: int = 0
    """Blocks of the published autoencoder, where one more or less makes tokens of twice or half the width."""
    frames: int = 1
    """Frames that are a token, after the first."""
    channels: Callable[[Config], int] = _get_patches
    """(configuration) -> numbers that the last projection makes of an image token."""
    weights: int = 12
    """Numbers of weights that a token passes in a block, in H^2."""
    cross: bool = False
    """True if the prompt comes in by cross-attention, False if its tokens are among those of the image."""
    batched_guidance: bool = False
    """True if one call of the denoiser computes both guidance branches."""


def _fixed(full: Any, tiny: Any) -> Callable[[Any], tuple[Config, Config]]:
    return lambda model: (full["transformer"][1], tiny["transformer"][1])


def _list_sd3(model: Any) -> tuple[Config, Config]:
    full, tiny = sd3.FULL["transformer"][1], sd3.TINY["transformer"][1]
    medium = model.variant is sd3.Variant.medium
    return (full | sd3.MEDIUM, tiny | {"dual_attention_layers": (0, 1)}) if medium else (full, tiny)


def _list_cogvideox(model: Any) -> tuple[Config, Config]:
    small = model.variant is cogvideox.CogVideoXVariant.t2v_2b
    size = {"num_attention_heads": 30, "num_layers": 30} if small else {}
    return cogvideox.FULL["transformer"][1] | size, cogvideox.TINY["transformer"][1]


def _list_klein(model: Any) -> tuple[Config, Config]:
    large = model.variant is flux2_architectures.KleinVariant.klein_9b
    full = flux2_architectures.KLEIN_9B if large else flux2_architectures.KLEIN
    return full["transformer"][1], flux2_architectures.TINY_KLEIN["transformer"][1]


def _list_wan(model: Any) -> tuple[Config, Config]:
    shapes = wan_architectures.VARIANTS[model.variant]
    return shapes.full["transformer"][1], shapes.tiny["transformer"][1]


def _list_hunyuan_video15(model: Any) -> tuple[Config, Config]:
    full = hunyuan_video15_architectures.FULL["transformer"][1]
    return full, full | hunyuan_video15_architectures.TINY_TRANSFORMER


def _count_hunyuan_video15(model: Any) -> int:
    of = hunyuan_video15_architectures
    return sum((of.TINY_TOKENS if model.init is Init.tiny else of.TOKENS).values())


_FLUX = Shape(configs=_fixed(flux.FULL, flux.TINY), channels=_get_inputs, vae_blocks=4)
# A gated MLP of three times the width: 4 + 6 + 3.
_FLUX2 = Shape(
    configs=_fixed(flux2_architectures.DEV, flux2_architectures.TINY_DEV),
    channels=_get_inputs,
    weights=13,
    vae_blocks=4,
)
_WAN = Shape(configs=_list_wan, frames=4, cross=True)
_HUNYUAN_VIDEO15 = Shape(
    configs=_list_hunyuan_video15,
    text=_count_hunyuan_video15,
    frames=4,
    channels=_get_outputs,
)
_COGVIDEOX = Shape(configs=_list_cogvideox, frames=4, batched_guidance=True)

SHAPES: dict[str, Shape] = {
    "chroma": replace(_FLUX, configs=_fixed(chroma.FULL, chroma.TINY)),
    "cogvideox": _COGVIDEOX,
    "cogvideox_i2v": _COGVIDEOX,
    "flux": _FLUX,
    "flux_fill": replace(_FLUX, configs=_fixed(flux_fill.FULL, flux_fill.TINY), channels=_get_outputs),
    "flux2": _FLUX2,
    "flux2_klein": replace(_FLUX2, configs=_list_klein),
    "hunyuan_video": Shape(configs=_fixed(hunyuan_video.FULL, hunyuan_video.TINY), frames=4),
    "hunyuan_video15": _HUNYUAN_VIDEO15,
    "hunyuan_video15_i2v": _HUNYUAN_VIDEO15,
    "ltx_video": Shape(
        configs=_fixed(ltx_video_architectures.FULL, ltx_video_architectures.TINY),
        pixels=32,
        frames=8,
        channels=_get_inputs,
        cross=True,
        batched_guidance=True,
    ),
    "qwen_image": Shape(configs=_fixed(qwen_image.FULL, qwen_image.TINY), text=lambda model: PROMPT_TOKENS),
    "sd3": Shape(configs=_list_sd3, text=lambda model: 77 + _read_length(model), vae_blocks=4, batched_guidance=True),
    "wan": _WAN,
    # The first frame comes in as 257 tokens beside the prompt.
    "wan_i2v": replace(_WAN, text=lambda model: _read_length(model) + 257),
    "wan22": _WAN,
    "wan22_i2v": _WAN,
    "wan22_5b": replace(_WAN, pixels=32),
}
"""Family -> its denoiser."""
