"""Whether a LoRA that diffusers has converted is as strong in the model as in its file.

Splitting a fused layer, ordering its rows and renaming it keep the sum of the squares of s B A; a part or a scale that
is left out does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .adapter_parts import DOWN, UP, split_part

if TYPE_CHECKING:
    import torch
    from torch import nn

TOLERANCE = 0.02
"""Relative, of the norm: what rounding to 16 bits leaves is far below."""


def find_change(
    tensors: dict[str, torch.Tensor], placed: list[tuple[nn.Module, dict[str, frozenset[str]]]], name: str
) -> str | None:
    """What is said of the first layer of a file that is weaker or stronger in the model; None if none is.

    Args:
        tensors: of the file, scales multiplied in.
        placed: a component and, of its parameters, the names of the tensors that they were made of.
        name: the adapter's.
    """
    groups: dict[str, str] = {}
    found: dict[str, float] = {}
    for module, sources in placed:
        for parameter, names in sources.items():
            layer, first, _ = parameter.partition(".lora_A.")
            second = f"{layer}.lora_B.{name}.weight"
            if not first or second not in sources:
                continue
            layers = {split[0] for key in names | sources[second] if (split := split_part(key, (*DOWN, *UP)))}
            if not layers:  # a name that is not known here: nothing to compare with
                continue
            group = min(_find_root(groups, each) for each in layers)
            total = sum(found.pop(root, 0.0) for root in {_find_root(groups, each) for each in layers})
            groups |= {_find_root(groups, each): group for each in layers}
            tuned: Any = module.get_submodule(layer)
            square = _square(tuned.lora_A[name].weight, tuned.lora_B[name].weight)
            found[group] = total + square * tuned.scaling[name] ** 2
    given: dict[str, float] = {}
    for down in tensors:
        split = split_part(down, DOWN)
        up = split[0] + UP[DOWN.index(split[1])] if split else ""
        if split and up in tensors:
            group = _find_root(groups, split[0])
            given[group] = given.get(group, 0.0) + _square(tensors[down], tensors[up])
    for group, square in given.items():
        ratio = (found.get(group, 0.0) / square) ** 0.5 if square else 1.0
        if abs(ratio - 1) > TOLERANCE:
            return f"{group}: diffusers gives it {ratio:.3g} times its strength in this model"
    return None


def _find_root(groups: dict[str, str], layer: str) -> str:
    while layer in groups and groups[layer] != layer:
        layer = groups[layer]
    return layer


def _square(down: torch.Tensor, up: torch.Tensor) -> float:
    """Sum of the squares of up @ down, for down (r, ...) and up (out, r, ...).

    On the smaller side: a file chooses its rank, and the memory of neither product exceeds that of the factors.
    """
    first, second = (tensor.detach().flatten(1).double() for tensor in (down, up))
    if len(first) <= min(len(second), first.shape[1]):
        return float(((first @ first.T) * (second.T @ second)).sum())
    return float((second @ first).square().sum())
