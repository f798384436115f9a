"""A random LoRA for a tiny model, in the place of one in the hub, which is for the full model.

Its tensors are named as diffusers names them, so that they go the way of a file's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import nn

PROJECTIONS = ("to_q", "to_k", "to_v", "to_qkv_mlp_proj", "qkv")
"""Ends of the names of layers that get updates: the projections of attention, which every family has."""
RANK = 2


def build_stand_in(denoiser: nn.Module, component: str, seed: int) -> dict[str, torch.Tensor]:
    """Random updates of rank 2 for all attention projections, small against the weights.

    Args:
        denoiser: of the pipeline.
        component: its name there, which begins the tensors' names.
        seed: another one for each file, so that two are not the same.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors: dict[str, torch.Tensor] = {}
    for name, layer in denoiser.named_modules():
        if isinstance(layer, torch.nn.Linear) and name.endswith(PROJECTIONS):
            down = torch.randn(RANK, layer.in_features, generator=generator) / layer.in_features**0.5
            up = torch.randn(layer.out_features, RANK, generator=generator) / RANK
            tensors |= {f"{component}.{name}.lora_A.weight": down, f"{component}.{name}.lora_B.weight": up}
    return tensors
