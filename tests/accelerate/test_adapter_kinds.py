"""DoRA, LoHa and LoKr files: the weight that they make, against their formulas in float64, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters, check_adapters, collect_evidence
from wavespeed_runner.errors import ConfigError, RunError

Tensors = dict[str, torch.Tensor]
GENERATOR = torch.Generator().manual_seed(0)
LINEAR = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CONV = "down_blocks.0.resnets.0.conv1"
TEXT = "encoder.layers.0.mlp.fc1"


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def key_of(layer: str) -> str:
    return f"lora_unet_{layer.replace('.', '_')}"


def apply(pipe: Any, tensors: Tensors, folder: Path, **options: Any) -> Lora:
    save_file(tensors, folder / "x.safetensors")
    adapters = Lora(path=str(folder / "x.safetensors"), **options)
    check_adapters(adapters)
    apply_adapters(pipe, adapters)
    return adapters


def make_dora(weight: torch.Tensor, key: str) -> tuple[Tensors, torch.Tensor]:
    """A file's tensors, and m (W + s B A) / |W + s B A|, the norm over each output's row (arXiv 2402.09353, eq. 5)."""
    down, up = draw(2, *weight.shape[1:]), draw(len(weight), 2, *(1 for _ in weight.shape[2:]))
    magnitude = draw(len(weight), *(1 for _ in weight.shape[1:])).abs()
    changed = weight.double() + 3 / 2 * (up.double().flatten(1) @ down.double().flatten(1)).reshape(weight.shape)
    norm = changed.flatten(1).norm(dim=1).reshape(magnitude.shape)
    tensors = {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up, f"{key}.dora_scale": magnitude}
    return tensors | {f"{key}.alpha": torch.tensor(3.0)}, magnitude.double() * changed / norm


@pytest.mark.parametrize("fuse", [True, False])
def test_dora_follows_its_formula(fuse: bool, tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sd15")
    linear, conv = (pipe.unet.get_submodule(layer) for layer in (LINEAR, CONV))
    first, expected = make_dora(linear.weight, key_of(LINEAR))
    second, expected_conv = make_dora(conv.weight, key_of(CONV))
    adapters = apply(pipe, first | second, tmp_path, fuse=fuse)
    given = draw(3, linear.in_features)
    found = pipe.unet.get_submodule(LINEAR)(given)
    assert torch.allclose(found.double(), given.double() @ expected.T, atol=1e-4)
    image = draw(1, conv.in_channels, 8, 8)
    after = torch.nn.functional.conv2d(image.double(), expected_conv, conv.bias.double(), padding=1)
    assert torch.allclose(pipe.unet.get_submodule(CONV)(image).double(), after, atol=1e-3)
    assert collect_evidence(pipe, adapters)["layers"] == ({} if fuse else {"unet": 2})  # type: ignore[index]


def test_dora_as_peft_saves_it_follows_its_formula(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("wan21")
    layer = "blocks.0.attn1.to_q"
    weight = pipe.transformer.get_submodule(layer).weight
    down, up, magnitude = draw(2, weight.shape[1]), draw(len(weight), 2), draw(len(weight)).abs()
    changed = weight.double() + up.double() @ down.double()
    tensors = {"lora_A.weight": down, "lora_B.weight": up, "lora_magnitude_vector": magnitude}
    apply(pipe, {f"transformer.{layer}.{name}": tensor for name, tensor in tensors.items()}, tmp_path, fuse=True)
    expected = magnitude.double()[:, None] * changed / changed.norm(dim=1, keepdim=True)
    assert torch.allclose(pipe.transformer.get_submodule(layer).weight.double(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "weight", "says"),
    [
        ((1, 16), 1.0, r"dora_scale: DoRA with one norm for each input \(shape \[1, 16\]\)"),
        ((16, 1), 0.5, r"dora_scale: DoRA sets the norms of the weights, .*; use adapters\.weight=1"),
    ],
)
def test_dora_that_peft_cannot_compute(shape: tuple[int, int], weight: float, says: str, tmp_path: Path) -> None:
    save_file({f"{key_of(LINEAR)}.dora_scale": draw(*shape)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=says):
        check_adapters(Lora(path=str(tmp_path / "x.safetensors"), weight=weight))


def make_loha(weight: torch.Tensor, key: str, tucker: bool = False) -> tuple[Tensors, torch.Tensor]:
    """A file's tensors, and alpha / r * (A1 B1) * (A2 B2), element by element (arXiv 2309.14859)."""
    out, into, rank = len(weight), weight[0].numel() // weight[0, 0].numel(), 2
    kernel = weight.shape[2:]
    tensors, factors = {f"{key}.alpha": torch.tensor(3.0)}, []
    for index in (1, 2):
        if tucker:
            core, first, second = draw(rank, rank, *kernel), draw(rank, out), draw(rank, into)
            tensors[f"{key}.hada_t{index}"] = core
            factors.append(torch.einsum("ijkl,ip,jr->prkl", core.double(), first.double(), second.double()))
        else:
            first, second = draw(out, rank), draw(rank, weight[0].numel())
            factors.append((first.double() @ second.double()).reshape(weight.shape))
        tensors |= {f"{key}.hada_w{index}_a": first, f"{key}.hada_w{index}_b": second}
    return tensors, 3 / rank * factors[0] * factors[1]


def make_lokr(weight: torch.Tensor, key: str, form: str) -> tuple[Tensors, torch.Tensor]:
    """A file's tensors, and the Kronecker product of both factors; alpha / r where one of them has a low rank."""
    out, into, rank, kernel = len(weight), weight.shape[1], 2, weight.shape[2:]
    w1, scale = draw(2, 2), 1.0
    tensors = {f"{key}.alpha": torch.tensor(3.0), f"{key}.lokr_w1": w1}
    if form == "whole":
        w2 = draw(out // 2, into // 2, *kernel)
        tensors[f"{key}.lokr_w2"] = w2
    else:
        first, second = draw(out // 2, rank), draw(rank, into // 2 * kernel.numel())
        w2, scale = (first.double() @ second.double()).reshape(out // 2, into // 2, *kernel), 3 / rank
        tensors |= {f"{key}.lokr_w2_a": first, f"{key}.lokr_w2_b": second}
    product = torch.kron(w1.double().reshape(2, 2, *(1 for _ in kernel)), w2.double())
    return tensors, scale * product


@pytest.mark.parametrize("kind", ["loha", "tucker", "lokr whole", "lokr low"])
@pytest.mark.parametrize("fuse", [True, False])
def test_loha_and_lokr_follow_their_formulas(kind: str, fuse: bool, tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sd15")
    tensors: Tensors = {}
    expected = {}
    for layer in (LINEAR, CONV):
        weight = pipe.unet.get_submodule(layer).weight
        if kind.startswith("lokr"):
            part, change = make_lokr(weight, key_of(layer), kind.split()[1])
        else:
            part, change = make_loha(weight, key_of(layer), tucker=kind == "tucker" and layer == CONV)
        tensors |= part
        expected[layer] = weight.double() + 0.5 * change
    apply(pipe, tensors, tmp_path, weight=0.5, fuse=fuse)
    linear, conv = (pipe.unet.get_submodule(layer) for layer in (LINEAR, CONV))
    given, image = draw(3, expected[LINEAR].shape[1]), draw(1, expected[CONV].shape[1], 8, 8)
    assert torch.allclose(linear(given).double(), given.double() @ expected[LINEAR].T, atol=1e-3)
    bias = (conv if fuse else conv.base_layer).bias.double()
    after = torch.nn.functional.conv2d(image.double(), expected[CONV], bias, padding=1)
    assert torch.allclose(conv(image).double(), after, rtol=1e-4, atol=1e-2)


def test_several_kinds_together_add_up(tmp_path: Path) -> None:
    """A LoRA, a LoHa and a LoKr on one layer, each at its weight, with a text encoder's part."""
    _, _, pipe = load_tiny("sd15")
    before = pipe.unet.get_submodule(LINEAR).weight.double().clone()
    down, up = draw(2, before.shape[1]), draw(len(before), 2)
    lora = {f"{key_of(LINEAR)}.lora_down.weight": down, f"{key_of(LINEAR)}.lora_up.weight": up}
    loha, second = make_loha(before, key_of(LINEAR))
    lokr, third = make_lokr(before, key_of(LINEAR), "low")
    files = []
    for index, tensors in enumerate((lora, loha, lokr)):
        files.append(str(tmp_path / f"{index}.safetensors"))
        save_file(tensors, files[-1])
    apply_adapters(pipe, Lora(path=files, weight=[0.5, -0.3, 0.7], fuse=True))
    expected = before + 0.5 * up.double() @ down.double() - 0.3 * second + 0.7 * third
    assert torch.allclose(pipe.unet.get_submodule(LINEAR).weight.double(), expected, atol=1e-4)


def test_a_lokr_of_a_fused_layer_has_no_place(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("flux")
    tensors, _ = make_lokr(draw(96, 32), "lora_unet_double_blocks_0_img_attn_qkv", "whole")
    with pytest.raises(RunError, match="lora_unet_double_blocks_0_img_attn_qkv: LoKr is only applied to layers"):
        apply(pipe, tensors, tmp_path)


def test_a_lokr_of_the_wrong_shape(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sd15")
    tensors, _ = make_lokr(draw(6, 10), key_of(LINEAR), "whole")
    with pytest.raises(RunError, match=r"attn1_to_q: it changes a weight of \(6, 10\), and the model's has"):
        apply(pipe, tensors, tmp_path)


@pytest.mark.parametrize(
    ("part", "says"),
    [("oft_blocks", "OFT"), ("lora_mid.weight", "three factors"), ("a1.weight", "GLoRA"), ("on_input", "IA3")],
)
def test_other_kinds_are_refused_before_anything_is_loaded(part: str, says: str, tmp_path: Path) -> None:
    save_file({f"lora_unet_x.{part}": draw(2, 2)}, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=rf"x\.safetensors: lora_unet_x\.{part}: .*{says}.*not supported"):
        check_adapters(Lora(path=str(tmp_path / "x.safetensors")))


@pytest.mark.parametrize("part", ["lora_B.bias", "lora_magnitude_vector", "lora_magnitude_vector.weight"])
def test_what_peft_gives_all_layers_or_none_is_refused_where_one_has_it(part: str, tmp_path: Path) -> None:
    tensors = {f"transformer.{layer}.lora_{side}.weight": draw(4, 4) for layer in ("a", "b") for side in "AB"}
    file = tmp_path / "x.safetensors"
    save_file(tensors | {f"transformer.a.{part}": draw(4)}, file)
    with pytest.raises(
        ConfigError, match=r"transformer\.a has a .* and transformer\.b has none, which PEFT cannot load"
    ):
        check_adapters(Lora(path=str(file)))
    save_file(tensors | {f"transformer.{layer}.{part}": draw(4) for layer in ("a", "b")}, file)
    check_adapters(Lora(path=str(file)))
