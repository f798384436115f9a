"""Splits the rows of a batch by image, and puts them together again.

Pipelines that batch guidance call the denoiser with a multiple of the images: row i belongs to image i % images.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Streams = dict[str, "Tensor"]
"""Token streams by name, each (rows, tokens, channels)."""


def split_rows(tensor: Tensor, images: int) -> list[Tensor]:
    """Each image's rows, as views."""
    return [tensor] if images == 1 else [tensor[i::images] for i in range(images)]


def split_optional_rows(tensor: Tensor | None, images: int) -> list[Tensor | None]:
    """Each image's rows, as views; None for every image if there is no tensor."""
    return [None] * images if tensor is None else [*split_rows(tensor, images)]


def copy_rows(streams: Streams, images: int) -> list[Streams]:
    """Each image's rows of every stream, as copies.

    Images compute at different steps: a view would keep the rows of the whole batch in memory.
    """
    if images == 1:
        return [streams]
    return [{name: tensor[i::images].clone() for name, tensor in streams.items()} for i in range(images)]


def join_rows(parts: list[Tensor]) -> Tensor:
    """The batch made of each image's rows."""
    if len(parts) == 1:
        return parts[0]
    import torch

    return torch.stack(parts, dim=1).flatten(0, 1)


def replace_rows(tensor: Tensor, replacement: Tensor, replaced: list[bool]) -> Tensor:
    """A copy of `tensor` in which the rows of some images come from `replacement`. replaced: one entry an image."""
    result = tensor.clone()
    for i, is_replaced in enumerate(replaced):
        if is_replaced:
            result[i :: len(replaced)] = replacement[i :: len(replaced)]
    return result
