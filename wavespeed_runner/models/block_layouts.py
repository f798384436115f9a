"""Descriptions of transformer blocks that several families share: their lists, and their timestep-modulated input.

The functions `modulate_with_*` are values of `Blocks.modulated_input`: (first block, its streams, its other arguments)
-> image tokens as the attention of that block receives them, shape (n, tokens, channels). They take blocks of several
diffusers classes, so a block has no narrower type than `Any`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .family import BlockList

if TYPE_CHECKING:
    from torch import Tensor

STREAMS = ("hidden_states", "encoder_hidden_states")
"""Image tokens and prompt tokens."""


def text_first(name: str) -> BlockList:
    """A list of two-stream blocks that return the prompt tokens before the image tokens."""
    return BlockList(name=name, streams=STREAMS, returns=("encoder_hidden_states", "hidden_states"))


def image_first(name: str) -> BlockList:
    """A list of two-stream blocks that return the image tokens before the prompt tokens."""
    return BlockList(name=name, streams=STREAMS, returns=STREAMS)


def modulate_with_norm1(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """For blocks whose first norm applies the modulation itself."""
    return block.norm1(streams["hidden_states"], emb=arguments["temb"])[0]


def modulate_with_table(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """For PixArt's blocks: the block's own table plus six vectors of the timestep."""
    tokens = streams["hidden_states"]
    table = block.scale_shift_table[None].to(tokens.device) + arguments["timestep"].reshape(len(tokens), 6, -1)
    shift, scale = table.chunk(6, dim=1)[:2]
    return block.norm1(tokens) * (1 + scale) + shift


def modulate_with_token_table(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """For LTX's blocks: as `modulate_with_table`, with one timestep per token or one for all tokens."""
    temb, rows = arguments["temb"], block.scale_shift_table
    table = rows[None, None].to(temb.device) + temb.reshape(*temb.shape[:2], len(rows), -1)
    shift, scale = table.unbind(dim=2)[:2]
    return block.norm1(streams["hidden_states"]) * (1 + scale) + shift
