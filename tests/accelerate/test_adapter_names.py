"""A LoRA file that is for no model, or for another kind, is refused by the plan, from its header."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.command_line import CommandLine
from wavespeed_runner.accelerate.adapter_names import find_foreign
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation

Composed = Callable[..., dict[str, Any]]
KOHYA = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
OF_UNETS = [
    KOHYA,
    "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
    "unet.up_blocks.1.attentions.0.proj_in",
]
OF_TRANSFORMERS = [
    "lora_unet_double_blocks_0_img_attn_proj",
    "lora_unet_joint_blocks_0_x_block_attn_qkv",
    "transformer.single_transformer_blocks.0.attn.to_q",
    "transformer.transformer_blocks.0.attn.to_q",
    "diffusion_model.blocks.0.self_attn.q",
    "diffusion_model.single_blocks.0.linear1",
]
OF_ANY = [
    "proj_out",
    "x_embedder",
    "time_in.in_layer",
    "lora_te_text_model_encoder_layers_0_mlp_fc1",
    "norm_out.linear",
]


def shapes(layer: str, into: int = 8) -> dict[str, list[int]]:
    return {f"{layer}.lora_down.weight": [2, into], f"{layer}.lora_up.weight": [8, 2]}


def write(file: Path, layer: str, into: int = 8) -> Path:
    save_file({key: torch.ones(shape) for key, shape in shapes(layer, into).items()}, file)
    return file


def plan_with(composed: Composed, model: str, file: Path) -> None:
    build_plan(composed(f"model={model}", "model.init=pretrained", "adapters=lora", f"adapters.path={file}"))


@pytest.mark.parametrize(
    ("model", "layers", "kind"),
    [
        ("flux", OF_UNETS, "a U-Net, such as"),
        ("wan21", OF_UNETS, "a U-Net"),
        ("sdxl", OF_TRANSFORMERS, "a transformer"),
    ],
)
def test_a_file_for_another_kind_of_model_is_refused_by_the_plan(
    composed: Composed, tmp_path: Path, model: str, layers: list[str], kind: str
) -> None:
    for layer in layers:
        file = write(tmp_path / "x.safetensors", layer)
        with pytest.raises(
            ConfigError, match=rf"^adapters\.path=\S+: {re.escape(layer)}\.lora_down\.weight: a layer of {kind}"
        ):
            plan_with(composed, model, file)


@pytest.mark.parametrize(
    ("model", "layers"),
    [("flux", [*OF_TRANSFORMERS, *OF_ANY]), ("sd15", [*OF_UNETS, *OF_ANY]), ("sdxl", [*OF_UNETS, *OF_ANY])],
)
def test_what_may_be_for_the_model_is_left_to_loading(composed: Composed, model: str, layers: list[str]) -> None:
    config = build_plan(composed(f"model={model}", "model.init=tiny")).config.model
    for layer in layers:
        assert find_foreign(shapes(layer), config, find_implementation("model", config)) is None, layer


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        (shapes("foo"), r"foo\.lora_down\.weight: no model has a layer of this name; use a file for this model"),
        ({"foo": [3], "bar": [4]}, r"none of its 2 tensors is named as one of a LoRA is; use a LoRA file"),
    ],
)
def test_a_made_up_file_is_refused_at_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tensors: dict[str, list[int]],
    says: str,
) -> None:
    """Exit status 2, no folder of a run, and without loading torch's packages; with `dry_run=true`, too."""
    command = CommandLine(tmp_path, monkeypatch, capsys)
    file = tmp_path / "x.safetensors"
    save_file({key: torch.ones(shape) for key, shape in tensors.items()}, file)
    for more in ([], ["dry_run=true"]):
        assert re.search(says, command.refuses("adapters=lora", f"adapters.path={file}", "prompt=x", *more))


@pytest.mark.parametrize(
    ("model", "width", "is_refused"),
    [("sdxl", 768, True), ("sdxl", 2048, False), ("sd15", 2048, True), ("sd15", 768, False), ("sd21", 1024, False)],
)
def test_the_width_of_the_prompt_tells_which_u_net_a_file_is_for(
    composed: Composed, tmp_path: Path, model: str, width: int, is_refused: bool
) -> None:
    file = write(tmp_path / "x.safetensors", KOHYA, width)
    if is_refused:
        with pytest.raises(
            ConfigError, match=rf"it reads prompts of width {width}, as \w+.* has it; use a file for this"
        ):
            plan_with(composed, model, file)
    else:
        plan_with(composed, model, file)


def test_a_stage_s_own_lora_is_looked_at_too(composed: Composed, tmp_path: Path) -> None:
    data = composed("model=flux")
    file = write(tmp_path / "x.safetensors", KOHYA)
    data["graph"]["stages"]["load"]["options"] = {"adapters": {"name": "lora", "path": str(file)}}
    with pytest.raises(ConfigError, match="a layer of a U-Net"):
        build_plan(data)
