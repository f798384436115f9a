"""Finds the layers of a LoRA file that diffusers fails on: its own message names none, or is empty."""

from __future__ import annotations

import logging
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from ..errors import format_error
from .adapter_parts import ALPHA, DIFFERENCES, DORA, DOWN, UP, split_part

if TYPE_CHECKING:
    import torch

    Tensors = dict[str, torch.Tensor]
    Layers = dict[str, Tensors]

PARTS = (*DOWN, *UP, *DIFFERENCES, ALPHA, DORA, ".lora_B.bias", ".lora_magnitude_vector")
UNSAID = (
    "this model has no such layer, or one of another shape, or diffusers converts these names for the sizes of the "
    "published model alone"
)
"""What is said for an assertion, which has no message."""
MOST = 2
"""Most layers that are looked for and named."""


def explain_failure(tensors: Tensors, error: Exception, load: Callable[[Tensors, str], None]) -> str:
    """Names the layers, or the tensors that are no part of one, that make a file fail.

    Args:
        tensors: of the file; all together failed.
        error: how.
        load: loads tensors as an adapter of a name that no other has, or raises.
    """
    layers: Layers = {}
    for key, tensor in tensors.items():
        layers.setdefault((split_part(key, PARTS) or (key,))[0], {})[key] = tensor
    numbers = count()

    def find(failing: Layers, reason: str) -> list[str]:
        if len(failing) == 1:
            return [f"{_list_shapes(failing)}: {reason}"]
        names, found = list(failing), list[str]()
        for half in (names[: len(names) // 2], names[len(names) // 2 :]):
            part = {name: failing[name] for name in half}
            if len(found) < MOST and (why := _try(part, f"tried_{next(numbers)}", load)):
                found += find(part, why)
        return found or [f"{_list_shapes(failing)}: only together: {reason}"]

    logger = logging.getLogger("diffusers")  # it logs each failure at length
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        found = find(layers, _describe(error))
    finally:
        logger.setLevel(level)
    return "; ".join([*found[:MOST], "use a file for this model"])


def _try(layers: Layers, name: str, load: Callable[[Tensors, str], None]) -> str:
    """Why these layers alone fail to load; empty if they do not."""
    try:
        load({key: tensor for layer in layers.values() for key, tensor in layer.items()}, name)
    except Exception as error:
        return _describe(error).replace(f".{name}", "")
    return ""


def _describe(error: Exception) -> str:
    if "Make sure all LoRA param names contain" in str(error):  # said also of files whose names all contain it
        return "diffusers knows no layer of these names"
    return format_error(error).rstrip(".") if str(error).strip() else UNSAID


def _list_shapes(layers: Layers) -> str:
    shapes = [f"{key} {list(tensor.shape)}" for layer in layers.values() for key, tensor in layer.items()]
    return ", ".join(shapes[:3]) + (f" and {len(shapes) - 3} more" if len(shapes) > 3 else "")
