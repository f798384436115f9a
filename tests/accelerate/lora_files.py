"""Writes LoRA files in the layouts of several tools, applies them, and computes what they should add."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from wavespeed_runner.accelerate.adapters import Lora, apply_adapters

Tensors = dict[str, torch.Tensor]
GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def write_pair(layer: str, out: int, into: int, rank: int = 2, alpha: float = 1.0, style: str = "kohya") -> Tensors:
    names = ("lora_down", "lora_up") if style == "kohya" else ("lora_A", "lora_B")
    down, up = (f"{layer}.{name}.weight" for name in names)
    return {down: draw(rank, into), up: draw(out, rank), f"{layer}.alpha": torch.tensor(alpha)}


def compute(tensors: Tensors, layer: str) -> torch.Tensor:
    """alpha / rank * up @ down, in float64."""
    down, up = (next(t for k, t in tensors.items() if k.startswith(f"{layer}.lora_{n}")) for n in _names(tensors))
    product = up.double().flatten(1) @ down.double().flatten(1)
    return float(tensors[f"{layer}.alpha"]) / len(down) * product.reshape(len(up), *down.shape[1:])


def _names(tensors: Tensors) -> tuple[str, str]:
    return ("down", "up") if any("lora_down" in key for key in tensors) else ("A", "B")


def apply(pipe: Any, tensors: Tensors, folder: Path, **options: Any) -> Any:
    save_file(tensors, folder / "x.safetensors")
    adapters = Lora(path=str(folder / "x.safetensors"), **options)
    apply_adapters(pipe, adapters)
    return adapters


def read(module: Any, name: str) -> torch.Tensor:
    return module.get_parameter(name).detach().double().clone()
