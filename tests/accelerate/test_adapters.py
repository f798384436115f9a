"""Adapters on the trained demo model: their effect on images, and errors for adapters that cannot take effect."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.conftest import run_as_data
from training.lora import purple_share
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters, collect_evidence
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.media.images import read_png
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.registry import find_implementation, list_entries

Composed = Callable[..., dict[str, Any]]
LORAS = "pkg://wavespeed_runner/weights/demo_lora"
NIGHT = f"{LORAS}/night.safetensors"
DEMO = (
    "model.init=pretrained",
    "width=64",
    "height=64",
    "steps=12",
    "prompt='a red circle on a white background'",
    "seed=1",
)


@pytest.fixture
def generate(composed: Composed, tmp_path: Path) -> Callable[..., tuple[np.ndarray, dict[str, Any]]]:
    """Runs the trained demo model with overrides; returns the image and the record."""

    def run(*overrides: str) -> tuple[np.ndarray, dict[str, Any]]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        plan = build_plan({**composed(*DEMO, *overrides), "outputs": str(tmp_path / "outputs")})
        record = run_as_data(plan, folder, [])
        assert record["status"] == "completed", record["error"]
        return read_png(folder / record["samples"][0]["file"])[0], record

    return run


def brightness(image: np.ndarray) -> float:
    """Mean of the border, which shows the background."""
    return float(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]).mean())


def test_a_lora_acts_as_strongly_as_its_weight(generate: Callable[..., Any]) -> None:
    plain, record = generate()
    assert record["engaged"]["adapters"] is None
    lora = ["adapters=lora", f"adapters.path={NIGHT}"]
    weight_0, _ = generate(*lora, "adapters.weight=0")
    full, record = generate(*lora)
    half, _ = generate(*lora, "adapters.weight=0.5")
    assert np.abs(weight_0.astype(int) - plain).max() <= 1
    assert brightness(plain) > 240 and brightness(full) < 15
    assert not np.array_equal(half, full) and not np.array_equal(half, plain)
    layers = record["engaged"]["adapters"]["layers"]["transformer"]
    assert record["engaged"]["adapters"] == {"lora": [1.0], "fused": False, "layers": {"transformer": layers}}
    assert layers > 20


def test_a_fused_lora_gives_the_same_image_up_to_rounding(generate: Callable[..., Any]) -> None:
    lora = ["adapters=lora", f"adapters.path={NIGHT}", "adapters.weight=0.8"]
    unfused, _ = generate(*lora)
    fused, record = generate(*lora, "adapters.fuse=true")
    assert record["engaged"]["adapters"] == {"lora": [0.8], "fused": True, "layers": {}}
    assert np.abs(fused.astype(int) - unfused).max() <= 2


def test_the_reference_has_the_adapter_too(generate: Callable[..., Any]) -> None:
    _, record = generate("adapters=lora", f"adapters.path={NIGHT}", "cache=fbcache", "measure=default")
    assert record["samples"][0]["quality"]["ssim"] > 0.9


def test_two_loras_act_together_on_8_bit_weights(generate: Callable[..., Any]) -> None:
    """One LoRA for night, one for purple objects. Loaded after casting they would fail, see test_order.py."""
    both = ["adapters=lora", f"adapters.path=['{NIGHT}','{LORAS}/purple.safetensors']", "adapters.weight=[1,0.8]"]
    image, record = generate(*both, "memory=layerwise_casting", "measure.reference=false")
    assert purple_share(image) > 0.8 and brightness(image) < 25
    assert record["engaged"]["adapters"]["lora"] == [1.0, 0.8]
    assert record["engaged"]["memory"]["layerwise_casting"]["transformer"] > 100_000


def test_several_loras_add_up(tmp_path: Path, composed: Composed) -> None:
    """Compared with weights added up in float64: W + w1 B1 A1 + w2 B2 A2 (PEFT scales by alpha / rank)."""
    config = resolve_config(composed(*DEMO)).model
    family = find_implementation("model", config)
    first = PACKAGE / "weights/demo_lora/night.safetensors"
    second = tmp_path / "second.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {key: torch.randn(t.shape, generator=generator) * 0.02 for key, t in load_file(first).items()}
    tensors = {key: t if "lora_" in key else load_file(first)[key] for key, t in tensors.items()}
    save_file(tensors, second, metadata=_metadata(first))
    pipe, plain = load(family, config, "cpu"), load(family, config, "cpu")
    apply_adapters(pipe, Lora(path=[str(first), str(second)], weight=[0.7, -0.3], fuse=True))
    name = "transformer_blocks.0.attn.to_q"
    expected = plain.transformer.get_submodule(name).weight.double()
    for file, weight in ((load_file(first), 0.7), (tensors, -0.3)):
        down, up = (file[f"transformer.{name}.lora_{side}.weight"].double() for side in "AB")
        expected = expected + weight * up @ down
    assert torch.allclose(pipe.transformer.get_submodule(name).weight.double(), expected, atol=1e-6)


def _metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return opened.metadata() or {"format": "pt"}


def test_a_file_with_tensors_that_match_nothing_is_refused(tmp_path: Path, composed: Composed) -> None:
    config = resolve_config(composed(*DEMO)).model
    file = PACKAGE / "weights/demo_lora/night.safetensors"
    tensors = load_file(file)
    moved = {key: tensor.clone() for key, tensor in tensors.items() if ".transformer_blocks.0.attn.to_q." in key}
    wrong = tensors | {key.replace("blocks.0", "blocks.77"): tensor for key, tensor in moved.items()}
    assert len(wrong) == len(tensors) + 2
    save_file(wrong, tmp_path / "wrong.safetensors", metadata=_metadata(file))
    pipe = load(find_implementation("model", config), config, "cpu")
    with pytest.raises(RunError, match=r"adapters\.path=.*wrong\.safetensors: does not fit this model"):
        apply_adapters(pipe, Lora(path=str(tmp_path / "wrong.safetensors")))


def test_the_fingerprint_depends_on_the_content_of_the_file_not_its_name(composed: Composed, tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    for copy in (one, two):
        shutil.copy(PACKAGE / "weights/demo_lora/night.safetensors", copy)
    configs = [composed(*DEMO, "adapters=lora", f"adapters.path={path}") for path in (one, two)]
    plans = [build_plan({**data, "outputs": str(tmp_path)}) for data in configs]
    assert plans[0].fingerprint == plans[1].fingerprint
    save_file({f"transformer.proj_out.lora_{half}.weight": torch.ones(1, 1) for half in "AB"}, two)
    assert build_plan({**configs[1], "outputs": str(tmp_path)}).fingerprint != plans[0].fingerprint


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["adapters=lora"], r"adapters\.path: a value is needed"),
        (["adapters=lora", "adapters.path=x.pt"], r"adapters\.path=x\.pt: weights in pickle files are refused"),
        (["adapters=lora", "adapters.path=gone.safetensors"], r"gone\.safetensors: no such file"),
        (["adapters=lora", "adapters.path=[]"], r"adapters\.path=\[\]: at least one"),
        (["adapters=lora", "adapters.path=[a/b,c/d]", "adapters.weight=[1]"], r"1 values for 2 of adapters\.path"),
        (["adapters=lora", "adapters.path=a/b", "adapters.weight=much"], r"adapters\.weight=much: a number"),
        (["adapters.path=x.safetensors"], r"adapters=none with adapters\.path=x\.safetensors.*adapters=lora"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_loaded(
    composed: Composed, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build_plan(composed(*overrides))


def test_no_adapters_leave_no_evidence() -> None:
    (none,) = [entry.options() for entry in list_entries() if entry.group == "adapters" and entry.name == "none"]
    assert collect_evidence(None, none) is None
