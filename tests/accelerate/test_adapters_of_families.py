"""Adapters on tiny models of every family: each kind that a family supports changes what it generates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.accelerate.random_adapters import (
    FAMILIES,
    TOKEN,
    family_of,
    find_targets,
    generate,
    load_tiny,
    write_embedding,
    write_lora,
)
from wavespeed_runner.accelerate.adapters import (
    Lora,
    TextualInversion,
    apply_adapters,
    collect_evidence,
)


@pytest.mark.parametrize("name", [name for name in FAMILIES.values() if "lora" in family_of(name).adapters])
def test_a_lora_changes_the_latents_but_not_at_weight_0(name: str, tmp_path: Path) -> None:
    family, _, pipe = load_tiny(name)
    prefix = "unet" if family.denoiser == "unet" else "transformer"
    file = write_lora(getattr(pipe, family.denoiser), tmp_path / "lora.safetensors", prefix)
    plain = generate(name, pipe)

    apply_adapters(pipe, Lora(path=str(file)))

    layers = len(load_file(file)) // 2
    assert collect_evidence(pipe, Lora(path=str(file))) == {
        "lora": [1.0],
        "fused": False,
        "layers": {family.denoiser: layers},
    }
    assert (generate(name, pipe) - plain).abs().max() > 1e-4
    pipe.set_adapters(["lora_0"], [0.0])
    assert torch.allclose(generate(name, pipe), plain, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name for name in FAMILIES.values() if "textual_inversion" in family_of(name).adapters]
)
def test_a_learned_token_changes_the_latents(name: str, tmp_path: Path) -> None:
    """Two vectors for one word give different latents for a prompt with the word, and equal ones without it."""
    images = []
    for seed in (1, 2):
        _, _, pipe = load_tiny(name)
        width = pipe.text_encoder.get_input_embeddings().embedding_dim
        file = write_embedding(tmp_path / f"{seed}.safetensors", seed, new=(1, width))
        apply_adapters(pipe, TextualInversion(path=file))
        assert collect_evidence(pipe, TextualInversion(path=file)) == {"tokens": {"text_encoder": {TOKEN: 1}}}
        images.append((generate(name, pipe, f"a {TOKEN}"), generate(name, pipe, "a circle")))
    (first, first_without), (second, second_without) = images
    assert (first - second).abs().max() > 1e-5
    assert torch.equal(first_without, second_without)


def test_a_lora_in_kohya_layout_follows_its_formula(tmp_path: Path) -> None:
    """The layout of most files for Stable Diffusion 1: W + weight * alpha / rank * up @ down."""
    _, _, pipe = load_tiny("sd15")
    generator = torch.Generator().manual_seed(0)
    tensors, expected = {}, {}
    for name in find_targets(pipe.unet):
        weight = pipe.unet.get_submodule(name).weight
        down, up = (torch.randn(shape, generator=generator) for shape in ((4, weight.shape[1]), (weight.shape[0], 4)))
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.alpha": torch.tensor(2.0)}
        expected[name] = weight.double() + 0.5 * 2 / 4 * up.double() @ down.double()
    save_file(tensors, tmp_path / "kohya.safetensors")
    apply_adapters(pipe, Lora(path=str(tmp_path / "kohya.safetensors"), weight=0.5, fuse=True))
    assert len(expected) == 4
    for name, weight in expected.items():
        assert torch.allclose(pipe.unet.get_submodule(name).weight.double(), weight, atol=1e-5), name


@pytest.mark.parametrize(
    ("component", "layers"),
    [
        (None, {"transformer": 4}),
        ("transformer_2", {"transformer_2": 4}),
        (["transformer", "transformer_2"], {"transformer": 4, "transformer_2": 4}),
    ],
)
@pytest.mark.parametrize("fuse", [False, True])
def test_each_of_two_denoisers_can_have_its_own_lora(
    component: Any, layers: dict[str, int], fuse: bool, tmp_path: Path
) -> None:
    _, _, pipe = load_tiny("wan22")
    files = [str(write_lora(pipe.transformer, tmp_path / f"{i}.safetensors", "transformer", i)) for i in range(2)]
    adapters = Lora(path=files if isinstance(component, list) else files[0], component=component, fuse=fuse)
    before = {part: getattr(pipe, part).state_dict() for part in ("transformer", "transformer_2")}
    before = {part: {key: tensor.clone() for key, tensor in state.items()} for part, state in before.items()}
    apply_adapters(pipe, adapters)
    if not fuse:
        assert collect_evidence(pipe, adapters)["layers"] == layers  # type: ignore[index]
        return
    changed = {}
    for part, state in before.items():
        fused = getattr(pipe, part).state_dict()
        changed[part] = sum(not torch.equal(fused[key], tensor) for key, tensor in state.items())
    assert {part: count for part, count in changed.items() if count} == layers
