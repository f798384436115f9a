"""Files and folders as people share them: weights in fp8 with scales, tensors that do not belong, and loading them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file as read_file
from safetensors.torch import save_file

from tests.models import original_transformers
from tests.models.tiny_families import tiny
from wavespeed_runner.config.schema import Init
from wavespeed_runner.models.weights.pretrained import load

State = dict[str, torch.Tensor]
FP8 = torch.float8_e4m3fn
OLD, NEW = ("scale_weight", "scale_input"), ("weight_scale", "input_scale")
"""Names of scales in ComfyUI's older and newer files."""


def store(state: State, names: tuple[str, str], *, rows: bool) -> State:
    """The weights of layers in fp8, with one scale each, or one for each row, and scales of inputs."""
    stored = {}
    for name, weight in state.items():
        if weight.dim() < 2 or not name.endswith(".weight"):
            stored[name] = weight
            continue
        most = weight.abs().flatten(1).amax(1).reshape(-1, *[1] * (weight.dim() - 1)) if rows else weight.abs().max()
        scale = most / torch.finfo(FP8).max
        layer = name.removesuffix(".weight")
        stored[name] = (weight / scale).to(FP8)
        stored[f"{layer}.{names[0]}"] = scale.reshape(-1, 1) if rows else scale
        stored[f"{layer}.{names[1]}"] = torch.tensor(0.5)
    return stored


def assert_near(loaded: Any, expected: Any) -> None:
    """To the rounding of fp8: half a unit of the last of 3 bits, and of the smallest number."""
    ours, theirs = loaded.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        smallest = weight.abs().max() / torch.finfo(FP8).max * 2**-10
        assert torch.all((ours[name] - weight).abs() <= weight.abs() * 2**-4 + 1.01 * smallest), name


def assert_same(loaded: Any, expected: Any) -> None:
    ours, theirs = loaded.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in theirs)


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def original_flux() -> State:
    return original_transformers.flux(tiny("flux")[2].transformer)


def load_file(name: str, folder: Path, state: State, metadata: dict[str, str] | None = None) -> Any:
    """The pipeline from a single file that a folder completes."""
    family, config, _ = tiny(name)
    file = folder / "shared.safetensors"
    save_file({key: tensor.contiguous() for key, tensor in state.items()}, file, metadata=metadata)
    return load(family, replace(config, init=Init.pretrained, repo=str(file), components=str(folder)), "cpu")


def change_folder(folder: Path, copied: Path, part: str, change: Callable[[State], State]) -> Path:
    shutil.copytree(folder, copied)
    (file,) = (copied / part).glob("*.safetensors")
    save_file(change(read_file(file)), file, metadata={"format": "pt"})
    return copied


def load_folder(name: str, folder: Path) -> Any:
    family, config, _ = tiny(name)
    return load(family, replace(config, init=Init.pretrained, repo=str(folder)), "cpu")
