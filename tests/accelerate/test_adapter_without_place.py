"""A tensor of a LoRA file that would not reach the model is refused by name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.lora_files import Tensors, apply, draw, write_pair
from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapter_culprit import explain_failure
from wavespeed_runner.accelerate.adapters import collect_evidence
from wavespeed_runner.errors import RunError


@pytest.mark.parametrize(
    ("name", "key", "shape", "says"),
    [
        ("flux", "lora_unet_double_blocks_9_img_attn_proj", (32, 32), "lora_unet_double_blocks_9_img_attn_proj"),
        ("wan21", "diffusion_model.blocks.9.self_attn.q", (32, 32), "diffusion_model.blocks.9.self_attn.q"),
        ("sd15", "lora_te2_text_model_encoder_layers_0_self_attn_q_proj", (32, 32), "no such text encoder"),
        ("sdxl", "lora_te3_encoder_block_0_layer_0_SelfAttention_q", (32, 32), "no such text encoder"),
        (
            "sd15",
            "lora_te_text_model_encoder_layers_9_self_attn_q_proj",
            (32, 32),
            "layers_9_self_attn_q_proj: .*no",
        ),
        ("sd15", "lora_unet_mid_block_attentions_9_proj_in", (32, 32), "attentions_9_proj_in"),
    ],
)
def test_a_part_without_a_place_is_named(
    name: str, key: str, shape: tuple[int, int], says: str, tmp_path: Path
) -> None:
    _, _, pipe = load_tiny(name)
    with pytest.raises(RunError, match=rf"x\.safetensors: does not fit this model: .*{says}") as caught:
        apply(pipe, write_pair(key, *shape), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("added", "says"),
    [
        (
            {"odd_ids": draw(3)},
            r"model: odd_ids \[3\]: diffusers knows no layer of these names; use a file for this model",
        ),
        (
            write_pair("lora_unet_mid_block_attentions_0_proj_in", 7, 32),
            r"model: \S+proj_in\.\S+ \[\d+, \d+\], \S+ \[\d+, \d+\]: .*; use",
        ),
    ],
)
def test_what_diffusers_fails_on_is_named_with_a_way_out(added: Tensors, says: str, tmp_path: Path) -> None:
    """Its own message names no tensor of the file, so the layers are tried in halves."""
    _, _, pipe = load_tiny("sd15")
    whole = [f"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_{part}" for part in "qkv"]
    width = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.in_features
    tensors = {key: at for layer in whole for key, at in write_pair(layer, width, width).items()}
    apply(load_tiny("sd15")[2], tensors, tmp_path)
    with pytest.raises(RunError, match=says) as caught:
        apply(pipe, tensors | added, tmp_path)
    assert "attn1" not in str(caught.value) and "tried" not in str(caught.value)


def test_few_layers_are_named_of_many_that_fail() -> None:
    tried = []

    def load(tensors: Tensors, name: str) -> None:
        tried.append(name)
        if any("bad" in key for key in tensors):
            raise AssertionError
        if len(tensors) > 40:
            raise ValueError("too many.")

    tensors = {f"layer_{index}.lora_A.weight": draw(1, 2) for index in range(64)}
    bad = {f"bad_{index}.lora_A.weight": draw(1, 2) for index in range(3)}
    said = explain_failure(tensors | bad, ValueError("x"), load)
    assert re.match(r"bad_0\.lora_A\.weight \[1, 2\]: this model has no such layer, .*; bad_1.*; use a file", said)
    assert "bad_2" not in said and len(tried) == len(set(tried)) < 30
    said = explain_failure(tensors, ValueError("too many."), load)
    assert said.startswith("layer_0.lora_A.weight [1, 2]") and "and 61 more: only together: too many; use" in said


@pytest.mark.parametrize(
    ("key", "shape", "says"),
    [
        ("diffusion_model.blocks.9.self_attn.norm_q.diff", (32,), r"blocks\.9\.self_attn\.norm_q.*no such layer"),
        ("diffusion_model.blocks.0.self_attn.norm_q.diff", (5,), r"shape is \[5\], and the model's weight has"),
        ("diffusion_model.blocks.0.self_attn.norm_q.diff_b", (32,), "has no bias"),
    ],
)
def test_a_difference_without_a_place_is_named(key: str, shape: tuple[int], says: str, tmp_path: Path) -> None:
    _, _, pipe = load_tiny("wan21")
    with pytest.raises(RunError, match=rf"does not fit this model: .*{says}"):
        apply(pipe, {key: draw(*shape)}, tmp_path)


def test_two_names_of_one_layer_are_refused(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sd15")
    layer = "text_model_encoder_layers_0_self_attn_q_proj"
    width = pipe.text_encoder.config.hidden_size
    tensors = write_pair(f"lora_te_{layer}", width, width) | write_pair(f"lora_te1_{layer}", width, width)
    with pytest.raises(RunError, match=rf"lora_te1?_{layer}: the file changes this layer by another name too, lora_te"):
        apply(pipe, tensors, tmp_path)


def test_zeros_without_a_place_change_nothing(tmp_path: Path) -> None:
    """A trainer writes the text encoder that it did not train; diffusers' test for it is any non-zero value."""
    _, _, pipe = load_tiny("wan21")
    width = pipe.transformer.blocks[0].attn1.to_q.in_features
    tensors = write_pair("diffusion_model.blocks.0.self_attn.q", width, width)
    tensors["diffusion_model.blocks.9.norm3.diff"] = torch.zeros(width)
    zero = write_pair("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1", 4, 4)
    tensors |= {key: tensor * (0 if "up" in key else 1) for key, tensor in zero.items()}
    adapters = apply(pipe, tensors, tmp_path)
    assert collect_evidence(pipe, adapters) == {"lora": [1.0], "fused": False, "layers": {"transformer": 1}}


def test_a_part_of_a_layer_that_is_lost_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of a fused layer can be lost without that any tensor is: then its strength is less."""
    _, _, pipe = load_tiny("sd15")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = write_pair(layer, *pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.shape)
    convert = type(pipe).lora_state_dict

    def lose(given: Tensors, **options: Any) -> Any:
        state, *rest = convert(given, **options)
        return ({key: tensor * (0.5 if "up" in key else 1) for key, tensor in state.items()}, *rest)

    monkeypatch.setattr(type(pipe), "lora_state_dict", lose)
    with pytest.raises(RunError, match=re.escape(f"{layer}: diffusers gives it 0.5 times its strength")):
        apply(pipe, tensors, tmp_path)
