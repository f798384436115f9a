"""Tensors whose numbers are none of weights are refused by name: a cast would drop half of a complex one, or lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models.shared_files import State, change_folder, load_folder
from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate.adapter_options import Lora, TextualInversion
from wavespeed_runner.accelerate.adapters import apply_adapters, check_adapters
from wavespeed_runner.accelerate.tiny_vae import inspect_tiny_vae
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.checkpoint import inspect_checkpoint
from wavespeed_runner.models.weights.own_vae import inspect_vae
from wavespeed_runner.models.weights.safetensors_file import find_no_weight

OTHERS = [(torch.complex64, "C64"), (torch.int64, "I64"), (torch.bool, "BOOL"), (torch.uint8, "U8")]


@pytest.mark.parametrize("kind", ["C64", "I8", "U16", "I64", "BOOL", "F8_E8M0", "F4"])
def test_only_numbers_of_weights_are(kind: str) -> None:
    assert find_no_weight({"a.bias": {"dtype": "F32"}, "b": {"dtype": kind}}) == f"b is stored as {kind}"
    assert find_no_weight({"b": {"dtype": kind}}, quantized=True) == ("b is stored as C64" if kind == "C64" else None)


@pytest.mark.parametrize(
    "name", ["text_model.embeddings.position_ids", "bn.num_batches_tracked", "v_pred", "scaled_fp8"]
)
def test_what_counts_and_marks_may_be_whole_numbers(name: str) -> None:
    assert find_no_weight({name: {"dtype": "I64"}, "__metadata__": {"format": "pt"}}) is None
    assert find_no_weight({name: {"dtype": "C64"}}) == f"{name} is stored as C64"


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "text_encoder_2"])
@pytest.mark.parametrize(("dtype", "kind"), OTHERS[:2])
def test_components_of_a_folder(
    part: str, dtype: torch.dtype, kind: str, folders: Callable[[str], Path], tmp_path: Path
) -> None:
    def change(state: State) -> State:
        name = next(name for name in state if name.endswith((".bias", "norm.weight")))
        return state | {name: state[name].to(dtype)}

    folder = change_folder(folders("flux"), tmp_path / "flux", part, change)
    says = rf"'{part}': \S+ is stored as {kind}, which is not read"
    with pytest.raises(ConfigError, match=says):
        inspect_checkpoint(str(folder))
    with pytest.raises(ConfigError, match=says):
        load_folder("flux", folder)
    if part == "vae":
        with pytest.raises(ConfigError, match=says):
            inspect_vae(str(folder), None)


@pytest.mark.parametrize(("dtype", "kind"), OTHERS)
def test_adapters_and_tokens(dtype: torch.dtype, kind: str, tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    pair: dict[str, Any] = {
        "transformer.a.lora_A.weight": torch.ones(2, 4),
        "transformer.a.lora_B.weight": torch.ones(4, 2),
    }
    save_file(pair | {"transformer.a.lora_B.weight": torch.ones(4, 2).to(dtype)}, file)
    with pytest.raises(ConfigError, match=rf"lora_B\.weight is stored as {kind}"):
        check_adapters(Lora(path=str(file)))
    save_file({"new": torch.ones(1, 32).to(dtype)}, file)
    with pytest.raises(ConfigError, match=rf"new is stored as {kind}, which no learned token is"):
        check_adapters(TextualInversion(path=str(file)))
    with pytest.raises(ConfigError, match=rf"new is stored as {kind}, which no learned token is"):
        apply_adapters(tiny("sd15")[2], TextualInversion(path=str(file)))


def test_a_tiny_autoencoder(folders: Callable[[str], Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    source = PACKAGE / "weights/demo/vae"
    (tmp_path / "config.json").write_text((source / "config.json").read_text())
    state = load_file(next(source.glob("*.safetensors")))
    save_file(state | {name: tensor.to(torch.complex64) for name, tensor in state.items()}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match="is stored as C64"):
        inspect_tiny_vae(str(tmp_path))
