"""LoRA files that say nothing, hold no numbers, or need what no graph gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from tests.accelerate.lora_files import Tensors, apply, draw, write_pair
from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapter_injection import take_updates
from wavespeed_runner.accelerate.adapter_strength import _square
from wavespeed_runner.accelerate.adapters import TextualInversion, apply_adapters
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.planning.plan import build_plan

CLIP = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({}, "it holds no tensors of a LoRA; use another file"),
        (
            write_pair("unet.x", 4, 4) | write_pair("unet.x", 4, 4, style="peft"),
            r"unet\.x\.lora_(A|down)\.weight: the file has unet\.x\.lora_(down|A)\.weight too, the same factor",
        ),
        (
            write_pair("lora_unet_x", 4, 4, rank=4097),
            r"lora_unet_x\.lora_down\.weight: a rank of 4097; at most 4096 is applied; resize the LoRA",
        ),
        (
            write_pair("img_in", 32, 128, style="peft") | {"double_blocks.0.img_attn.norm.query_norm.scale": draw(8)},
            r"img_in\.lora_A\.weight: a control LoRA .* reads a control image .*, which no graph gives here; use",
        ),
    ],
)
def test_what_the_plan_refuses(
    tensors: Tensors, says: str, composed: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=rf"^adapters\.path=\S+x\.safetensors: {says}"):
        build_plan(composed("adapters=lora", f"adapters.path={tmp_path / 'x.safetensors'}"))
    with pytest.raises(RunError, match=rf"x\.safetensors: .*{says}"):  # one of the hub is not there at the plan
        apply(load_tiny("flux")[2], tensors, tmp_path)


@pytest.mark.parametrize(
    "tensors",
    [
        {key: tensor * ("up" not in key) for key, tensor in write_pair(CLIP, 32, 32).items()},
        {"lora_unet_mid_block_attentions_0_norm.diff": torch.zeros(32)},
    ],
)
def test_a_file_of_which_nothing_becomes_a_layer(tensors: Tensors, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"x\.safetensors: .*holds no tensors of a LoRA but zeros"):
        apply(load_tiny("sd15")[2], tensors, tmp_path)


@pytest.mark.parametrize(
    ("layer", "style", "part"),
    [("transformer.x_embedder", "peft", "lora_A"), ("diffusion_model.img_in", "kohya", "lora_down")],
)
def test_a_control_lora_is_refused_as_it_is_loaded(layer: str, style: str, part: str, tmp_path: Path) -> None:
    """diffusers would widen the model's layer for it, and denoising fail."""
    _, _, pipe = load_tiny("flux")
    out, into = pipe.transformer.x_embedder.weight.shape
    apply(pipe, write_pair(layer, out, into, style=style), tmp_path)
    says = f"{layer}.{part}.weight: it has {2 * into} inputs, and the model's layer {into}: a control LoRA"
    with pytest.raises(RunError, match=re.escape(says)):
        apply(load_tiny("flux")[2], write_pair(layer, out, 2 * into, style=style), tmp_path)


def test_another_width_of_the_first_layer_is_no_control_lora(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("flux")
    out, into = pipe.transformer.x_embedder.weight.shape
    says = f"it has {6 * into} inputs, and the model's layer {into}: use a file for this model"
    with pytest.raises(RunError, match=re.escape(says)):
        apply(pipe, write_pair("transformer.x_embedder", out, 6 * into, style="peft"), tmp_path)


@pytest.mark.parametrize("rank", [2, 300])
def test_the_strength_of_a_high_rank_is_measured_on_the_small_side(rank: int) -> None:
    class Sizes(TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found = func(*args, **(kwargs or {}))
            self.largest = max(self.largest, found.numel() if isinstance(found, torch.Tensor) else 0)
            return found

    down, up = draw(rank, 4, 3, 3), draw(5, rank, 1, 1)
    with Sizes() as sizes:
        square = _square(down, up)
    assert square == pytest.approx(float((up.flatten(1).double() @ down.flatten(1).double()).square().sum()))
    assert sizes.largest <= max(down.numel(), up.numel())


PLAIN = {"r": 2, "lora_alpha": 2, "use_dora": True, "target_modules": ["q"], "lora_dropout": 0.0, "bias": "none"}


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({}, ""),
        (PLAIN, ""),
        (PLAIN | {"lora_alpha": 4}, "lora_alpha"),
        (PLAIN | {"alpha_pattern": {"q": 4}}, "alpha_pattern"),
        (PLAIN | {"use_rslora": True}, "use_rslora"),
        (PLAIN | {"fan_in_fan_out": True}, "fan_in_fan_out"),
    ],
)
def test_settings_that_change_what_only_diffusers_reads_are_refused(settings: dict[str, Any], refused: str) -> None:
    tensors = write_pair("transformer.proj_out", 4, 8, style="peft") | {
        "transformer.proj_out.dora_scale": torch.ones(4)
    }
    named = {f"transformer.{key}": value for key, value in settings.items()} | {"unet.use_rslora": True}
    if refused:
        with pytest.raises(RunError, match=rf"transformer\.proj_out: the file's setting transformer\.{refused} is not"):
            take_updates(tensors, ["transformer"], named)
    else:
        (update,) = take_updates(tensors, ["transformer"], named)
        assert update.kind == "dora" and not tensors


@pytest.mark.parametrize("dtype", [torch.float32, torch.float8_e4m3fn])
@pytest.mark.parametrize("part", ["down", "up"])
def test_what_is_no_number_is_named(dtype: torch.dtype, part: str, tmp_path: Path) -> None:
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    tensors = {key: tensor.to(dtype) for key, tensor in write_pair(layer, 32, 32).items() if "alpha" not in key}
    tensors[f"{layer}.lora_{part}.weight"][0, 1] = float("nan")
    says = rf"^adapters\.path=\S+x\.safetensors: not a file .*: {layer}\.lora_{part}\.weight: .* no finite numbers"
    with pytest.raises(RunError, match=says):
        apply(load_tiny("sd15")[2], tensors, tmp_path)


def test_a_learned_token_that_is_no_number_is_named(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sd15")
    vector = torch.full((pipe.text_encoder.config.hidden_size,), float("inf"))
    save_file({"<cat>": vector}, tmp_path / "x.safetensors")
    with pytest.raises(RunError, match=r"^adapters\.path=\S+: not a file .*: <cat>: .* no finite numbers"):
        apply_adapters(pipe, TextualInversion(path=str(tmp_path / "x.safetensors"), token="<cat>"))
