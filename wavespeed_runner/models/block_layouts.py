"""What families share in their tables of blocks: how two streams of tokens pass, and what TeaCache watches.

Functions of the second kind are `Blocks.modulated`: (first block, its streams, its other arguments) -> image tokens
as the block's attention gets them, (n, tokens, channels).
"""

from __future__ import annotations

from typing import Any

from .family import BlockList

STREAMS = ("hidden_states", "encoder_hidden_states")
"""Tokens of the image and of the prompt."""


def text_first(name: str) -> BlockList:
    """A list of blocks that return the prompt's tokens before the image's."""
    return BlockList(name=name, streams=STREAMS, returns=("encoder_hidden_states", "hidden_states"))


def image_first(name: str) -> BlockList:
    """A list of blocks that return the image's tokens before the prompt's."""
    return BlockList(name=name, streams=STREAMS, returns=STREAMS)


def normalised(block: Any, streams: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Of blocks whose first norm modulates."""
    return block.norm1(streams["hidden_states"], emb=arguments["temb"])[0]


def shifted(block: Any, streams: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Of PixArt's blocks: a table of the block plus the timestep's six vectors."""
    tokens = streams["hidden_states"]
    table = block.scale_shift_table[None].to(tokens.device) + arguments["timestep"].reshape(len(tokens), 6, -1)
    shift, scale = table.chunk(6, dim=1)[:2]
    return block.norm1(tokens) * (1 + scale) + shift


def shifted_by_token(block: Any, streams: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """Of LTX's blocks: as `shifted`, with a timestep for each token or one for all."""
    temb, rows = arguments["temb"], block.scale_shift_table
    table = rows[None, None].to(temb.device) + temb.reshape(*temb.shape[:2], len(rows), -1)
    shift, scale = table.unbind(dim=2)[:2]
    return block.norm1(streams["hidden_states"]) * (1 + scale) + shift
