"""LoRA files whose names have something else in front than diffusers has, or none, and T5 by diffusers' names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.lora_files import apply, compute, read, write_pair
from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapters import collect_evidence
from wavespeed_runner.errors import RunError

PEFT, COMFYUI = "base_model.model.", "diffusion_model."


@pytest.mark.parametrize(
    ("name", "prefix", "layers"),
    [
        ("flux", PEFT, ["transformer_blocks.0.attn.to_q", "proj_out"]),
        ("flux", COMFYUI, ["transformer_blocks.0.attn.to_q", "proj_out"]),
        ("flux", f"model.{COMFYUI}", ["transformer_blocks.0.attn.to_q"]),
        ("flux", "", ["transformer_blocks.0.attn.to_q"]),
        ("wan21", PEFT, ["blocks.0.attn1.to_q", "blocks.0.ffn.net.2"]),
        ("wan21", COMFYUI, ["blocks.0.attn1.to_q", "blocks.0.ffn.net.2"]),
        ("sd15", PEFT, ["mid_block.attentions.0.transformer_blocks.0.attn1.to_q"]),
    ],
)
def test_another_prefix_is_taken_off(name: str, prefix: str, layers: list[str], tmp_path: Path) -> None:
    _, _, pipe = load_tiny(name)
    module: Any = pipe.unet if name == "sd15" else pipe.transformer
    tensors = {}
    for layer in layers:
        out, into = module.get_submodule(layer).weight.shape
        tensors |= write_pair(f"{prefix}{layer}", out, into, alpha=3.0, style="peft")
    before = {layer: read(module, f"{layer}.weight") for layer in layers}
    apply(pipe, tensors, tmp_path, fuse=True)
    for layer in layers:
        after = before[layer] + compute(tensors, f"{prefix}{layer}")
        assert torch.allclose(read(module, f"{layer}.weight"), after, atol=1e-5), layer


@pytest.mark.parametrize("prefix", [PEFT, COMFYUI])
@pytest.mark.parametrize(
    ("layer", "out", "says"),
    [
        ("transformer_blocks.9.attn.to_q", 32, r"2 of its \d tensors match nothing in the model: {}lora_A\.weight"),
        ("transformer_blocks.0.attn.to_q", 31, r"{}lora_A\.weight \[2, 64\], .*size mismatch"),
    ],
)
def test_what_does_not_fit_is_named_as_in_the_file(
    prefix: str, layer: str, out: int, says: str, tmp_path: Path
) -> None:
    _, _, pipe = load_tiny("flux")
    width = pipe.transformer.proj_out.in_features
    tensors = write_pair(f"{prefix}proj_out", len(pipe.transformer.proj_out.weight), width, style="peft")
    tensors |= write_pair(f"{prefix}transformer_blocks.0.attn.to_k", width, width, style="peft")
    tensors |= write_pair(f"{prefix}{layer}", out, width, style="peft")
    tensors = {key: tensor for key, tensor in tensors.items() if not key.endswith("alpha")}
    with pytest.raises(RunError, match=says.format(f"{prefix}{layer}.".replace(".", r"\."))):
        apply(pipe, tensors, tmp_path)


def test_t5_by_diffusers_names(tmp_path: Path) -> None:
    """diffusers loads the LoRA of FLUX's first text encoder alone."""
    layer = "encoder.block.0.layer.0.SelfAttention.q"
    _, _, pipe = load_tiny("flux")
    shape = pipe.text_encoder_2.get_submodule(layer).weight.shape
    tensors = write_pair(f"text_encoder_2.{layer}", *shape, style="peft")
    before = read(pipe.text_encoder_2, f"{layer}.weight")
    adapters = apply(pipe, tensors, tmp_path, fuse=True)
    after = before + compute(tensors, f"text_encoder_2.{layer}")
    assert torch.allclose(read(pipe.text_encoder_2, f"{layer}.weight"), after, atol=1e-6)
    assert collect_evidence(pipe, adapters) is not None
    with pytest.raises(RunError, match=rf"text_encoder_3\.{layer}: this model has no such text encoder"):
        apply(pipe, {key.replace("encoder_2", "encoder_3"): tensor for key, tensor in tensors.items()}, tmp_path)
