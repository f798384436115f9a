"""Adapters that are refused, by the plan or when they are loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from wavespeed_runner.accelerate.adapters import Lora, apply_adapters
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.registry import find_implementation

Composed = Callable[..., dict[str, Any]]
Planned = Callable[..., Plan]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["adapters.path=a/b", "adapters.file=x.bin"], r"adapters\.file=x\.bin: a \.safetensors file is needed"),
        (
            [
                "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors",
                "adapters.file=x.safetensors",
            ],
            r"adapters\.file=x\.safetensors: .* is a file itself",
        ),
        ([f"adapters.path=[{','.join(f'a{i}/b' for i in range(101))}]"], r"101 adapters; at most 100"),
        (["adapters.path=a/b", "adapters.weight=[nan]"], r"adapters\.weight\[0\]=nan: a finite number"),
    ],
)
def test_adapters_that_could_do_harm_or_nothing(composed: Composed, overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        build_plan(composed("adapters=lora", *overrides))


@pytest.mark.parametrize(
    ("files", "file", "says"),
    [
        ([], "null", r"it is a folder without \.safetensors files; allowed: a \.safetensors file"),
        (
            ["b.safetensors", "a.safetensors"],
            "null",
            r"holds a\.safetensors, b\.safetensors; give .*=\S+/a\.safetensors$",
        ),
        (["b.safetensors", "a.safetensors"], "b.safetensors", r"give one file: adapters\.path=\S+/b\.safetensors$"),
        (["pytorch_lora_weights.safetensors", "a.safetensors"], "null", r"path=\S+/pytorch_lora_weights\.safetensors$"),
    ],
)
def test_a_folder_is_answered_with_its_files(
    composed: Composed, tmp_path: Path, files: list[str], file: str, says: str
) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ConfigError, match=rf"^adapters\.path={tmp_path}/?: .*{says}"):
        build_plan(composed("adapters=lora", f"adapters.path={tmp_path}/", f"adapters.file={file}"))


A, B = torch.ones(2, 8), torch.ones(8, 2)
WHOLE = {"unet.y.lora_A.weight": A, "unet.y.lora_B.weight": B}
HALVES = [
    ({"unet.x.lora_A.weight": A}, r"unet\.x\.lora_A\.weight: half of a LoRA, without unet\.x\.lora_B\.weight"),
    ({"unet.x.lora_B.weight": B}, r"unet\.x\.lora_B\.weight: half of a LoRA, without unet\.x\.lora_A\.weight"),
    ({"lora_unet_x.lora_up.weight": B, "lora_unet_x.alpha": torch.ones(())}, r"x\.lora_up\.weight: half of a LoRA"),
    ({"lora_unet_x.lora_down.weight": A, "lora_unet_x.dora_scale": B}, r"x\.lora_down\.weight: half of a LoRA"),
    ({"unet.x.to_q_lora.down.weight": A}, r"to_q_lora\.down\.weight: half of a LoRA, without \S+to_q_lora\.up\.weight"),
    ({"lora_unet_x.alpha": torch.ones(())}, r"lora_unet_x\.alpha: it belongs to factors that the file lacks"),
    ({"unet.x.lora_A.weight": torch.ones(3, 8), "unet.x.lora_B.weight": B}, r"of \[8, 2\] have other ranks"),
]


@pytest.mark.parametrize(("tensors", "says"), HALVES)
def test_half_of_a_lora_is_named_by_the_plan(
    composed: Composed, tmp_path: Path, tensors: dict[str, torch.Tensor], says: str
) -> None:
    for given in (tensors, WHOLE | tensors):
        save_file({key: tensor.clone() for key, tensor in given.items()}, tmp_path / "x.safetensors")
        with pytest.raises(ConfigError, match=rf"^adapters\.path=\S+x\.safetensors: .*{says}.*; use a whole file$"):
            build_plan(composed("adapters=lora", f"adapters.path={tmp_path / 'x.safetensors'}"))
    beside = {"lora_unet_x.diff": A, "lora_unet_x.alpha": torch.ones(())}
    save_file({key: tensor.clone() for key, tensor in (WHOLE | beside).items()}, tmp_path / "x.safetensors")
    build_plan(composed("adapters=lora", f"adapters.path={tmp_path / 'x.safetensors'}"))


def test_an_adapter_of_one_stage_is_looked_at_too(composed: Composed) -> None:
    data = composed()
    data["graph"]["stages"]["load"]["options"] = {"adapters": {"name": "lora", "path": "/nowhere.safetensors"}}
    with pytest.raises(ConfigError, match=r"adapters\.path=/nowhere\.safetensors: no such file"):
        build_plan(data)


def test_a_lora_from_the_hub_of_which_a_part_finds_no_place(
    composed: Composed, planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's cache holds it, because there is no hub here."""
    import huggingface_hub.constants

    commit = "0" * 40
    cache = tmp_path / "models--somebody--lora"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    (cache / "snapshots" / commit).mkdir(parents=True)
    tensors = load_file(PACKAGE / "weights/demo_lora/night.safetensors")
    wrong = {key.replace("_blocks.0.", "_blocks.77."): tensor for key, tensor in tensors.items()}
    save_file(wrong, cache / "snapshots" / commit / "pytorch_lora_weights.safetensors")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = planned("model.init=pretrained").config.model
    pipe = load(find_implementation("model", model), model, "cpu")
    with pytest.raises(RunError, match=r"adapters\.path=somebody/lora: does not fit this model: \d+ of its"):
        apply_adapters(pipe, Lora(path="somebody/lora"))
