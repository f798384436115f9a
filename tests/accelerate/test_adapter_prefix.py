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
        ("flux", f"module.{COMFYUI}", ["transformer_blocks.0.attn.to_q"]),
        ("flux", f"{PEFT}transformer.", ["transformer_blocks.0.attn.to_q"]),
        ("z_image", COMFYUI, ["layers.0.attention.to_q"]),
        ("z_image", PEFT, ["layers.0.attention.to_q"]),
        ("z_image", "transformer.", ["layers.0.attention.to_q"]),
        ("qwen_image", COMFYUI, ["transformer_blocks.0.attn.to_q", "proj_out"]),
        ("qwen_image", PEFT, ["transformer_blocks.0.attn.to_q"]),
        ("qwen_image", "transformer.", ["transformer_blocks.0.attn.to_q"]),
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


@pytest.mark.parametrize(
    ("name", "prefix", "layer", "says"),
    [
        (
            "sd15",
            "controlnet.",
            "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
            r"does not fit this model: controlnet\..*not found",
        ),
        ("flux", "controlnet.", "transformer_blocks.0.attn.to_q", r"does not fit this model: controlnet\..*not found"),
        ("flux", "fake_score.", "transformer_blocks.0.attn.to_q", r"does not fit this model: fake_score\..*not found"),
        ("wan22", "transformer_2.", "blocks.0.attn1.to_q", r"use adapters\.component=transformer_2"),
        ("wan22", f"{PEFT}transformer_2.", "blocks.0.attn1.to_q", r"use adapters\.component=transformer_2"),
        ("flux", "vae.", "transformer_blocks.0.attn.to_q", "a layer of vae, .*; use a file for the denoiser"),
    ],
)
def test_another_network_is_not_put_into_the_denoiser(
    name: str, prefix: str, layer: str, says: str, tmp_path: Path
) -> None:
    _, _, pipe = load_tiny(name)
    module: Any = pipe.unet if name == "sd15" else pipe.transformer
    tensors = write_pair(f"{prefix}{layer}", *module.get_submodule(layer).weight.shape, style="peft")
    del tensors[f"{prefix}{layer}.alpha"]
    with pytest.raises(RunError, match=says):
        apply(pipe, tensors, tmp_path)


def test_the_second_denoiser_by_its_own_name(tmp_path: Path) -> None:
    layer = "blocks.0.attn1.to_q"
    _, _, pipe = load_tiny("wan22")
    shape = pipe.transformer_2.get_submodule(layer).weight.shape
    tensors = write_pair(f"transformer_2.{layer}", *shape, style="peft")
    before = read(pipe.transformer_2, f"{layer}.weight")
    apply(pipe, tensors, tmp_path, fuse=True, component="transformer_2")
    after = before + compute(tensors, f"transformer_2.{layer}")
    assert torch.allclose(read(pipe.transformer_2, f"{layer}.weight"), after, atol=1e-5)


def test_two_tensors_of_one_layer_are_refused(tmp_path: Path) -> None:
    layer = "transformer_blocks.0.attn.to_q"
    _, _, pipe = load_tiny("flux")
    width = pipe.transformer.proj_out.in_features
    tensors = write_pair(f"{PEFT}{layer}", width, width) | write_pair(f"{PEFT}proj_out", 4, width)
    tensors |= write_pair(f"transformer.{layer}", width, width)
    with pytest.raises(RunError, match=rf"{PEFT}{layer}\S* and transformer\.{layer}\S* are for the same layer"):
        apply(pipe, tensors, tmp_path)


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
