"""LoRA files that would hang or mislead diffusers and PEFT are refused by what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from wavespeed_runner.accelerate.adapter_file import METADATA, find_hostile
from wavespeed_runner.accelerate.adapter_options import Lora, TextualInversion
from wavespeed_runner.accelerate.adapters import check_adapters
from wavespeed_runner.accelerate.lora import load_lora
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.errors import ConfigError, RunError

LAYER = "transformer.blocks.0.attn.to_q"
SAVED = {
    "r": 4, "lora_alpha": 8, "target_modules": ["blocks.0.attn.to_q"], "bias": "none", "peft_type": "LORA",
    "megatron_config": None, "megatron_core": "megatron.core", "init_lora_weights": True, "loftq_config": {},
    "rank_pattern": {"to_q": 2}, "alpha_pattern": {"to_q": 2.5}, "lora_dropout": 0.0, "peft_version": "0.21.2",
}  # fmt: skip
"""As PEFT writes it."""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(tensors: dict[str, Any] | None = None, settings: Any = None) -> Path:
        named = {f"{LAYER}.lora_A.weight": torch.ones(4, 8), f"{LAYER}.lora_B.weight": torch.ones(8, 4)}
        text = settings if isinstance(settings, str) else json.dumps(settings)
        save_file(named | (tensors or {}), tmp_path / "x.safetensors", {METADATA: text} if settings else None)
        return tmp_path / "x.safetensors"

    return write


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64])
def test_a_scale_is_above_0(write: Write, dtype: torch.dtype) -> None:
    for value in (8, 1):
        assert find_hostile(write({f"{LAYER}.alpha": torch.tensor(value, dtype=dtype)})) is None
    for value in (-1, 0):
        found = find_hostile(write({f"{LAYER}.alpha": torch.tensor([value], dtype=dtype)}))
        assert found is not None and found.startswith(f"{LAYER}.alpha: {value}")


@pytest.mark.parametrize(
    "value",
    [torch.tensor(float("nan")), torch.tensor(float("-inf")), torch.ones(2), torch.ones(0), torch.tensor(True)],
)
def test_a_scale_is_one_finite_number(write: Write, value: torch.Tensor) -> None:
    assert "a finite number above 0 is needed" in str(find_hostile(write({f"{LAYER}.alpha": value})))


@pytest.mark.parametrize("name", ["transformer.(.+)+!.lora_A.weight", "a|b", "a{9}", "x" * 301, "\u202e", "a[b]"])
def test_a_name_is_no_regular_expression(write: Write, name: str) -> None:
    assert "is no name of a layer" in str(find_hostile(write({name: torch.ones(2, 2)})))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target_modules": "(a+)+!"}, "is no name of a layer"),
        ({"target_modules": ["to_q", "(a+)+!"]}, "is no name of a layer"),
        ({"layers_pattern": "(a+)+!"}, "is no name of a layer"),
        ({"rank_pattern": {"(a+)+!": 1}}, "is no name of a layer"),
        ({"r": 5}, "5 is not between 0 and 4"),
        ({"rank_pattern": {"to_q": 10**9}}, "is not between 0 and 4"),
        ({"lora_alpha": -1}, "-1 is not between"),
        ({"megatron_config": {"a": 1}}, "names a library"),
        ({"init_lora_weights": "pissa"}, "true, false or 'gaussian'"),
    ],
)
def test_settings_are_names_and_numbers(write: Write, change: dict[str, Any], words: str) -> None:
    settings = {f"transformer.{key}": value for key, value in SAVED.items()}
    assert find_hostile(write(None, settings)) is None
    settings |= {f"transformer.{key}": value for key, value in change.items()}
    found = str(find_hostile(write(None, settings)))
    assert words in found and next(iter(change)) in found


@pytest.mark.parametrize("text", ["[" * 9000, "[1]", "3", "{", '{"a": 1e999}'])
def test_settings_that_are_none(write: Write, text: str) -> None:
    assert METADATA in str(find_hostile(write(None, text)))


def test_it_is_refused_before_it_is_loaded_and_tokens_may_be_any_text(write: Write, tmp_path: Path) -> None:
    file = write({f"{LAYER}.alpha": torch.tensor(-1.0)})
    with pytest.raises(ConfigError, match=r"x\.safetensors: not a file that can be loaded: .*alpha: -1\.0; a finite"):
        check_adapters(Lora(path=str(file)))
    with pytest.raises(RunError, match=r"not a file that can be loaded: .*alpha: -1\.0"):
        load_lora(None, Lora(path=str(file)))  # type: ignore[arg-type]
    save_file({"*": torch.ones(1, 8)}, tmp_path / "y.safetensors")
    check_adapters(TextualInversion(path=str(tmp_path / "y.safetensors")))


def test_the_shipped_one_is_fine() -> None:
    assert find_hostile(PACKAGE / "weights/demo_lora/night.safetensors") is None
