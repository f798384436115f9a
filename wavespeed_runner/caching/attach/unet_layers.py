"""Takes a U-Net apart into its layers: the stretches between two skip connections.

A layer ends where a skip connection does. On the way down, a resnet with its attention, or a downsampler, leaves one;
on the way up, a resnet with its attention, and the upsampler after it, takes one. So a U-Net with D layers on the way
down has D + 1 on the way up, the last of which takes what the first convolution returned:

    conv_in  down 1 ... down D  middle  up D+1 ... up 1  conv_norm_out
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...errors import RunError

BLOCKS = ("CrossAttnDownBlock2D", "DownBlock2D", "CrossAttnUpBlock2D", "UpBlock2D")
"""diffusers' classes of blocks that `list_layers` can take apart."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The modules of a U-Net between two skip connections."""

    way: str
    """`down` leaves a skip connection, `up` takes one, `middle` neither."""
    resnet: Any = None
    """For `middle` the whole block; None for a downsampler."""
    attention: Any = None
    resamplers: tuple[Any, ...] = ()
    """What changes height and width: the downsampler, or the upsampler after the last layer of a block."""


def list_layers(unet: Any) -> list[Layer]:
    """All layers of a `UNet2DConditionModel`, in the order in which they run.

    Raises:
        RunError: it has a block of an unknown class.
    """
    for block in (*unet.down_blocks, *unet.up_blocks):
        if type(block).__name__ not in BLOCKS:
            raise RunError(
                f"the layers of the U-Net's block {type(block).__name__} are not known, only those of "
                f"{', '.join(BLOCKS)}; use cache=none"
            )
    down = [layer for block in unet.down_blocks for layer in _list_down_layers(block)]
    middle = [Layer(way="middle", resnet=unet.mid_block)] if unet.mid_block is not None else []
    return down + middle + [layer for block in unet.up_blocks for layer in _list_up_layers(block)]


def _list_down_layers(block: Any) -> Iterator[Layer]:
    for resnet, attention in _pair_modules(block):
        yield Layer(way="down", resnet=resnet, attention=attention)
    if block.downsamplers is not None:
        yield Layer(way="down", resamplers=tuple(block.downsamplers))


def _list_up_layers(block: Any) -> Iterator[Layer]:
    *pairs, (last_resnet, last_attention) = _pair_modules(block)
    for resnet, attention in pairs:
        yield Layer(way="up", resnet=resnet, attention=attention)
    yield Layer(way="up", resnet=last_resnet, attention=last_attention, resamplers=tuple(block.upsamplers or ()))


def _pair_modules(block: Any) -> list[tuple[Any, Any]]:
    """(resnet, attention) of each layer; attention is None in blocks without."""
    return list(zip(block.resnets, getattr(block, "attentions", [None] * len(block.resnets)), strict=True))


def count_always_run(*, head: int, depth: int | None) -> int:
    """How many layers run at every step."""
    return head if depth is None else 2 * depth + 1
