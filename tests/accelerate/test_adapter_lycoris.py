"""LoHa and LoKr: parts that PEFT would leave out, and factors that make up something larger than the weight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapter_lycoris import find_misfit
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters, check_adapters
from wavespeed_runner.errors import ConfigError, RunError

LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
HADA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
Shape = tuple[int, ...]


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (("lokr_w1", "lokr_w2", "dora_scale"), r"x\.dora_scale: DoRA of a LoKr is not supported"),
        ((*HADA, "dora_scale"), r"x\.dora_scale: DoRA of a LoHa is not supported"),
        (("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2"), r"x\.lokr_w1\S*: a LoKr with this part too"),
        (("lokr_w1", "lokr_w1_a", "lokr_w2"), r"x\.lokr_w1_a: a LoKr with this part too is not supported; use a file"),
        (("lokr_w1", "lokr_w2", "lokr_w2_a"), r"x\.lokr_w2_a: a LoKr with this part too"),
        (("lokr_w1", "lokr_w2", "lokr_t2"), r"x\.lokr_t2: a LoKr with this part too"),
        ((*HADA, "lokr_w1"), r"x\.lokr_w1: a LoHa with this part too"),
        ((*HADA, "lora_down.weight"), r"x\.lora_down\.weight: a LoHa with this part too"),
        ((*HADA, "hada_t1"), r"x\.hada_t1: a LoHa with this part too"),
        (HADA[:3], r"x: a LoHa without hada_w2_b; use a whole file"),
        (("lokr_w1", "lokr_w2_a"), r"x: a LoKr without lokr_w2; use a whole file"),
    ],
)
def test_a_part_that_peft_leaves_out_or_lacks_is_refused_by_the_plan(parts: Shape, says: str, tmp_path: Path) -> None:
    tensors = {f"lora_unet_x.{part}": torch.ones(16, 1) for part in parts}
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=rf"x\.safetensors: lora_unet_{says}"):
        check_adapters(Lora(path=str(tmp_path / "x.safetensors")))


@pytest.mark.parametrize(
    "parts",
    [HADA, (*HADA, "hada_t1", "hada_t2"), ("lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b", "lokr_t2", "alpha")],
)
def test_whole_forms_pass_the_plan(parts: Shape, tmp_path: Path) -> None:
    shape = {"alpha": ()}
    tensors = {f"lora_unet_x.{part}": torch.ones(shape.get(str(part), (2, 2))) for part in parts}
    save_file(tensors, tmp_path / "x.safetensors")
    check_adapters(Lora(path=str(tmp_path / "x.safetensors")))


@pytest.mark.parametrize("kind", ["LoHa", "LoKr"])
def test_factors_larger_than_the_weight_are_refused_before_they_are_multiplied(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file of a few kilobytes would ask for gigabytes."""
    from peft.tuners.loha.layer import LoHaLayer
    from peft.tuners.lokr.layer import LoKrLayer

    _, _, pipe = load_tiny("sd15")
    out, into = pipe.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.weight.shape
    large: dict[str, Shape] = {"hada_w1_a": (out, 1), "hada_w1_b": (1, into), "hada_w2_a": (900, 1), HADA[3]: (1, 900)}
    if kind == "LoKr":
        large = {"lokr_w1_a": (out, 1), "lokr_w1_b": (1, into), "lokr_w2_a": (900, 1), "lokr_w2_b": (1, 900)}
    save_file({f"{LAYER}.{part}": torch.ones(shape) for part, shape in large.items()}, tmp_path / "x.safetensors")
    computed: list[Any] = []
    for owner in (LoHaLayer, LoKrLayer):
        monkeypatch.setattr(owner, "get_delta_weight", lambda *given, **options: computed.append(given))
    with pytest.raises(RunError, match=rf"{LAYER}: (its factors do not fit together, .*w2_a \[900, 1\]|it changes)"):
        apply_adapters(pipe, Lora(path=str(tmp_path / "x.safetensors")))
    assert not computed


CONV = (8, 4, 3, 3)
TUCKER: dict[str, Shape] = {
    **{f"hada_w{index}_a": (2, 8) for index in (1, 2)},
    **{f"hada_w{index}_b": (2, 4) for index in (1, 2)},
    **{f"hada_t{index}": (2, 2, 3, 3) for index in (1, 2)},
}
LOW: dict[str, Shape] = {"lokr_w1": (2, 2), "lokr_w2_a": (2, 4), "lokr_w2_b": (2, 2), "lokr_t2": (2, 2, 3, 3)}


def find(sizes: dict[str, Shape], shape: Shape = CONV) -> str | None:
    """On the meta device: nothing is computed here."""
    return find_misfit({part: torch.empty(size, device="meta") for part, size in sizes.items()}, list(shape))


@pytest.mark.parametrize(
    "sizes",
    [
        TUCKER,
        LOW,
        {"lokr_w1": (2, 2), "lokr_w2": (4, 2, 3, 3)},
        {"lokr_w1": (2, 2), "lokr_w2": (4, 18)},
        {"lokr_w1_a": (2, 1), "lokr_w1_b": (1, 2), "lokr_w2_a": (4, 3), "lokr_w2_b": (3, 18)},
    ],
)
def test_factors_that_fit(sizes: dict[str, Shape]) -> None:
    assert find(sizes) is None


@pytest.mark.parametrize(
    "sizes",
    [
        TUCKER | {"hada_t2": (2, 2, 3, 1)},
        TUCKER | {"hada_t1": (2, 2, 9, 9), "hada_t2": (2, 2, 9, 9)},
        TUCKER | {"hada_t1": (2, 3, 3, 3)},
        TUCKER | {part: (9, size[1]) if "_w" in part else (9, 9, 3, 3) for part, size in TUCKER.items()},
        LOW | {"lokr_w2_a": (9, 4), "lokr_w2_b": (9, 2), "lokr_t2": (9, 9, 3, 3)},
        LOW | {"lokr_w2_a": (9, 4), "lokr_t2": (9, 2, 3, 3)},
        LOW | {"lokr_w1": (2, 2, 1, 1)},
        {"lokr_w1": (2, 2), "lokr_w2": (4, 2, 9)},
        {"lokr_w1": (2, 6), "lokr_w2": (4, 2, 3, 1)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (4, 0), "lokr_w2_b": (0, 18)},
        {"lokr_w1": (2, 2), "lokr_w2_a": (4, 1), "lokr_w2_b": (2, 18)},
        {"lokr_w1": (), "lokr_w2": (8, 36)},
        {"hada_w1_a": (8, 2), "hada_w1_b": (2, 36), "hada_w2_a": (8, 3), "hada_w2_b": (3, 36)},
    ],
)
def test_factors_that_do_not_fit_together(sizes: dict[str, Shape]) -> None:
    """A core with another kernel, a rank above that of any such weight, or none, dimensions that PEFT mixes up."""
    assert "its factors do not fit together" in str(find(sizes))


def test_a_product_of_another_size_is_said_with_both() -> None:
    assert find({"lokr_w1": (2, 2), "lokr_w2": (4, 9)}) == (
        "it changes a weight of (8, 18), and the model's has [8, 4, 3, 3]"
    )
