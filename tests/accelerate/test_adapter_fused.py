"""LoRA files of Z-Image with one update for query, key and value: each gets its own third."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters
from wavespeed_runner.errors import RunError

STYLES = {
    "comfyui": ("diffusion_model.layers.0.attention.{}", ".lora_A.weight", ".lora_B.weight"),
    "old": ("diffusion_model.layers.0.attention.{}", ".lora_down.weight", ".lora_up.weight"),
    "kohya": ("lora_unet_layers_0_attention_{}", ".lora_down.weight", ".lora_up.weight"),
    "diffusers": ("transformer.layers.0.attention.{}", ".lora_A.weight", ".lora_B.weight"),
}


@pytest.mark.parametrize(
    ("style", "alpha"), [("comfyui", None), ("comfyui", 1.0), ("old", 1.0), ("kohya", 1.0), ("diffusers", None)]
)
def test_a_fused_update_is_that_of_the_fused_matrix(style: str, alpha: float | None, tmp_path: Path) -> None:
    layer, down, up = STYLES[style]
    _, _, pipe = load_tiny("z_image")
    attention = pipe.transformer.layers[0].attention
    before = {name: getattr(attention, name).weight.clone() for name in ("to_q", "to_k", "to_v")}
    fused = torch.cat([*before.values()])
    a, b = torch.randn(2, fused.shape[1]), torch.randn(len(fused), 2)
    tensors = {layer.format("qkv") + down: a, layer.format("qkv") + up: b}
    tensors |= {} if alpha is None else {layer.format("qkv") + ".alpha": torch.tensor(alpha)}
    if style != "kohya":
        tensors |= {layer.format("out") + down: torch.zeros(2, fused.shape[1])}
        tensors |= {layer.format("out") + up: torch.zeros(len(attention.to_out[0].weight), 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    apply_adapters(pipe, Lora(path=str(tmp_path / "x.safetensors"), fuse=True))
    wanted = fused + (1.0 if alpha is None else alpha / 2) * b @ a
    merged = torch.cat([getattr(attention, name).weight for name in before])
    assert torch.allclose(merged, wanted, atol=1e-5) and not torch.allclose(fused, wanted, atol=1e-2)


@pytest.mark.parametrize("part", [".lora_up.weight", ".dora_scale"])
def test_rows_that_are_not_three_times_as_many_are_refused(part: str, tmp_path: Path) -> None:
    _, _, pipe = load_tiny("z_image")
    width = pipe.transformer.layers[0].attention.to_q.weight.shape[1]
    start = "diffusion_model.layers.0.attention.qkv"
    tensors = {f"{start}.lora_down.weight": torch.ones(2, width), f"{start}.lora_up.weight": torch.ones(3 * width, 2)}
    tensors |= {f"{start}{part}": torch.ones(3 * width - 1, 2 if "up" in part else 1)}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(RunError, match=rf"qkv{part}: {3 * width - 1} rows for query, key and value"):
        apply_adapters(pipe, Lora(path=str(tmp_path / "x.safetensors")))


def test_a_file_with_both_is_refused_by_name(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("z_image")
    width = pipe.transformer.layers[0].attention.to_q.weight.shape[1]
    start = "diffusion_model.layers.0.attention."
    tensors = {f"{start}qkv.lora_A.weight": torch.ones(2, width), f"{start}qkv.lora_B.weight": torch.ones(3 * width, 2)}
    tensors |= {f"{start}to_q.lora_A.weight": torch.ones(2, width), f"{start}to_q.lora_B.weight": torch.ones(width, 2)}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(RunError, match="qkv"):
        apply_adapters(pipe, Lora(path=str(tmp_path / "x.safetensors")))
