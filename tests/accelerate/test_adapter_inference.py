"""Loaded adapters generate: nothing of their training, such as dropout, is active in any module."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.accelerate.lora_files import draw
from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapter_file import METADATA, read_settings
from wavespeed_runner.accelerate.adapter_layers import list_modules
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters, check_adapters

LINEAR = "transformer.blocks.0.attn1.to_q"
TEXT = "lora_te3_encoder_block_0_layer_0_SelfAttention_q"


def apply(pipe: Any, tensors: dict[str, torch.Tensor], folder: Path, metadata: dict[str, str] | None = None) -> None:
    save_file(tensors, folder / "x.safetensors", metadata)
    adapters = Lora(path=str(folder / "x.safetensors"))
    check_adapters(adapters)
    apply_adapters(pipe, adapters)


@pytest.mark.parametrize("magnitude", [False, True])
def test_every_module_is_in_evaluation_mode(magnitude: bool, tmp_path: Path) -> None:
    _, _, pipe = load_tiny("wan21")
    weight = pipe.transformer.get_submodule(LINEAR.partition(".")[2]).weight
    tensors = {f"{LINEAR}.lora_A.weight": draw(2, weight.shape[1]), f"{LINEAR}.lora_B.weight": draw(len(weight), 2)}
    if magnitude:
        tensors[f"{LINEAR}.lora_magnitude_vector"] = draw(len(weight)).abs()
    text = pipe.text_encoder.encoder.block[0].layer[0].SelfAttention.q.weight
    tensors |= {f"{TEXT}.lora_down.weight": draw(2, text.shape[1]), f"{TEXT}.lora_up.weight": draw(len(text), 2)}
    apply(pipe, tensors, tmp_path)
    modules = [
        (component, name, part) for component, m in list_modules(pipe).items() for name, part in m.named_modules()
    ]
    assert sum("lora_A" in name for _, name, _ in modules) >= 2
    assert [(component, name) for component, name, part in modules if part.training] == []


def test_dropout_of_the_training_is_not_active(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("wan21")
    layer = pipe.transformer.get_submodule(LINEAR.partition(".")[2])
    weight, bias = layer.weight.double(), layer.bias.double()
    down, up = draw(2, weight.shape[1]), draw(len(weight), 2)
    settings = {"r": 2, "lora_alpha": 2, "target_modules": ["blocks.0.attn1.to_q"], "lora_dropout": 0.9}
    metadata = {METADATA: json.dumps({f"transformer.{key}": value for key, value in settings.items()})}
    apply(pipe, {f"{LINEAR}.lora_A.weight": down, f"{LINEAR}.lora_B.weight": up}, tmp_path, metadata)
    given = draw(3, weight.shape[1])
    found = pipe.transformer.get_submodule(LINEAR.partition(".")[2])(given).double()
    assert torch.allclose(found, given.double() @ (weight + up.double() @ down.double()).T + bias, atol=1e-4)
    read = read_settings(tmp_path / "x.safetensors") or {}
    assert read["transformer.lora_dropout"] == 0 and read["transformer.r"] == 2


def test_warnings_of_peft_go_to_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It warns, in many lines, of metadata that names other layers than the file has."""
    _, _, pipe = load_tiny("wan21")
    width = pipe.transformer.get_submodule(LINEAR.partition(".")[2]).weight.shape[0]
    metadata = {METADATA: json.dumps({"transformer.r": 2, "transformer.target_modules": ["blocks.0.attn1.to_k"]})}
    tensors = {f"{LINEAR}.lora_A.weight": draw(2, width), f"{LINEAR}.lora_B.weight": draw(width, 2)}
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        apply(pipe, tensors, tmp_path, metadata)
    assert shown == [] and "While injecting the PEFT adapters" in caplog.text
