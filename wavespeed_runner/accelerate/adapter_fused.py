"""Splits what a LoRA file holds for three projections at once, where the model has them apart: Z-Image.

Its authors' code has one matrix for query, key and value, whose rows diffusers splits in this order
(`convert_z_image_fused_attention`). So of an update W + B A, A belongs to all three, and B is split as W is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ..errors import RunError
from .adapter_parts import ALPHA, DORA, DOWN, UP, split_part

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

CLASSES = ("ZImageTransformer2DModel",)
"""Models with their projections apart, whose authors have them in one matrix."""
FUSED = re.compile(r"(.*[._]attention[._])qkv")
OUT = re.compile(r"(.*\.attention\.)out")
"""The layers in their authors' names; kohya's have underscores, and diffusers knows its name of the second."""


def split_fused(pipe: DiffusionPipeline, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of a file, those of fused projections as three; unchanged for other models.

    A file that has the projections apart as well keeps both, and is refused for what has no place.
    """
    if type(getattr(pipe, "transformer", None)).__name__ not in CLASSES:
        return tensors
    found: dict[str, torch.Tensor] = {}
    for key, tensor in tensors.items():
        layer, part = split_part(key, (*DOWN, *UP, ALPHA, DORA)) or (key, "")
        if part and (out := OUT.fullmatch(layer)):
            found[f"{out[1]}to_out.0{part}"] = tensor
        elif part and (fused := FUSED.fullmatch(layer)) and not _has_apart(fused[1], tensors):
            is_split = part in UP or (part == DORA and len(tensor) > 1)  # one row: a norm for each input
            if is_split and len(tensor) % 3:
                raise RunError(
                    f"{key}: {len(tensor)} rows for query, key and value together, of which each has a third; use a "
                    "file for this model"
                )
            parts = tensor.chunk(3, dim=0) if is_split else [tensor.clone() for _ in "qkv"]
            found |= {f"{fused[1]}to_{name}{part}": one for name, one in zip("qkv", parts, strict=True)}
        else:
            found[key] = tensor
    return found


def _has_apart(start: str, tensors: dict[str, torch.Tensor]) -> bool:
    return any(key.startswith((f"{start}to_q", f"{start}to.q")) for key in tensors)
