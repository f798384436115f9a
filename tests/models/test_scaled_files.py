"""Files whose weights are stored in fp8 with scales, as users of ComfyUI share them: the scales are applied.

The right values are the weights before they were stored so: what is loaded is as near to them as fp8 can be.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.models import original_layout, original_transformers
from tests.models.shared_files import FP8, NEW, OLD, State, assert_near, change_folder, load_file, store
from tests.models.tiny_families import tiny
from wavespeed_runner.config.schema import Dtype, Init
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.checkpoint import explain_scales, inspect_checkpoint
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.models.weights.scales import find_scales
from wavespeed_runner.models.weights.tensors import find_bad_scale
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]
ORIGINAL = {"flux": original_transformers.flux, "wan21": original_transformers.wan, "sd15": original_layout.unet}
DIFFUSERS: Callable[[Any], State] = lambda model: model.state_dict()  # noqa: E731


@pytest.mark.parametrize("rows", [False, True], ids=["tensor", "rows"])
@pytest.mark.parametrize("layout", ["original", "diffusers"])
@pytest.mark.parametrize("name", list(ORIGINAL))
def test_scales_are_applied(
    name: str, layout: str, rows: bool, folders: Callable[[str], Path], narrow_flux: None
) -> None:
    family, _, pipe = tiny(name)
    denoiser = getattr(pipe, family.denoiser)
    state = (ORIGINAL[name] if layout == "original" else DIFFUSERS)(denoiser)
    stored = store(state, OLD if rows else NEW, rows=rows)
    stored["scaled_fp8"] = torch.zeros(2, dtype=FP8)
    if layout == "original" and (rows or name == "sd15"):
        stored = {f"model.diffusion_model.{key}": tensor for key, tensor in stored.items()}
    loaded = getattr(load_file(name, folders(name), stored), family.denoiser)
    assert_near(loaded, denoiser)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}


def test_the_plan_says_what_becomes_of_scaled_weights(
    folders: Callable[[str], Path], tmp_path: Path, planned: Planned
) -> None:
    folder = folders("flux")
    state = store(tiny("flux")[2].transformer.state_dict(), OLD, rows=False)
    layers = sum(name.endswith(".scale_weight") for name in state)
    save_file(state, tmp_path / "x.safetensors")
    given = ["model=flux", "model.init=pretrained", "model.dtype=float32", "measure=none"]
    copied = change_folder(folder, tmp_path / "copied", "transformer", lambda _: state)
    for where, name in (
        ([f"model.repo={tmp_path / 'x.safetensors'}", f"model.components={folder}"], "x.safetensors"),
        ([f"model.repo={copied}"], "transformer"),
    ):
        (change,) = planned(*given, *where).changes
        assert (change.key, change.value) == ("model.dtype", "float32")
        assert change.why.startswith(f"{name} holds {layers} weights in fp8 with scales, which are applied")
        assert f"its {layers} scales of inputs are not used, because layers compute in float32" in change.why


ONE = {"a.weight": {"dtype": "F8_E4M3", "shape": [4, 2]}}


def scaled(dtype: str = "F32", shape: tuple[int, ...] = (), name: str = "a.weight_scale") -> dict[str, Any]:
    return ONE | {name: {"dtype": dtype, "shape": list(shape)}}


def test_scales_of_a_tensor_and_of_rows_are_found() -> None:
    for shape in ((), (1,), (1, 1), (4,), (4, 1)):
        assert find_scales("x", scaled(shape=shape)).weights == {"a.weight": "a.weight_scale"}
    assert find_scales("x", ONE, ['{"layers": {"a": {"format": "float8_e4m3fn"}}}']).weights == {}


@pytest.mark.parametrize(
    ("tensors", "about", "says"),
    [
        (scaled(shape=(2, 1)), [], r"a\.weight_scale is F32 of shape \[2, 1\], for a weight of shape \[4, 2\]"),
        (scaled(shape=(4, 2)), [], r"read are floating-point scales of a tensor, \[\], and of its rows, \[4\]"),
        (scaled(dtype="F8_E8M0", shape=(4, 1)), [], r"a\.weight_scale is F8_E8M0"),
        (scaled(name="b.scale_weight"), [], r"b\.scale_weight is the scale of b\.weight, which the file lacks"),
        (
            scaled() | scaled(name="a.scale_weight"),
            [],
            r"a\.weight has two scales, a\.weight_scale and a\.scale_weight",
        ),
        (scaled() | scaled(name="a.weight_scale_2"), [], r"a\.weight_scale_2 belongs to weights stored as nvfp4"),
        (scaled() | {"a.weight": {"dtype": "I8", "shape": [4, 2]}}, [], r"a\.weight is stored as I8 with a scale"),
        (
            {"a.weight": {"dtype": "U8", "shape": [8, 1]}},
            [],
            r"a\.weight is stored as U8, which is not read; use a file",
        ),
        (ONE, ['{"layers": {"a": {"format": "mxfp8"}}}'], r"_quantization_metadata of a says \{'format': 'mxfp8'\}"),
        (ONE, ['{"layers": {"a": {"format": "float8_e4m3fn", "convrot": true}}}'], "of a says .*convrot"),
        (ONE, ["[" * 500], "_quantization_metadata is not read: not JSON"),
        (scaled(name="a.comfy_quant", dtype="U8", shape=(99999,)), [], "a.comfy_quant has 99999 bytes"),
    ],
)
def test_other_ways_to_store_weights_are_refused(tensors: dict[str, Any], about: list[Any], says: str) -> None:
    with pytest.raises(ConfigError, match=rf"^x: .*{says}"):
        find_scales("x", tensors, about)


def test_a_weight_that_lost_its_scale_is_refused() -> None:
    """ComfyUI takes 1 for it. A whole model may hold a text encoder in plain fp8 beside a denoiser with scales."""
    other = {"b.weight": {"dtype": "F8_E4M3", "shape": [4, 2]}, "c.weight": {"dtype": "F8_E5M2", "shape": [2, 2]}}
    with pytest.raises(ConfigError, match=r"^x: b\.weight is in fp8 and has no scale, nor have 1 more, where 1 others"):
        find_scales("x", scaled() | other)
    beside = {"b.bias": {"dtype": "F8_E4M3", "shape": [4]}, "b.weight": {"dtype": "BF16", "shape": [4, 2]}}
    assert find_scales("x", scaled() | beside).plain == 0
    assert find_scales("x", scaled() | {f"text_encoders.t5xxl.{key}": at for key, at in other.items()}).plain == 2


def test_the_plan_says_that_weights_marked_as_scaled_are_cast_plainly(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a.weight": torch.ones(2, 2).to(FP8), "scaled_fp8": torch.zeros(2, dtype=FP8)}, file)
    (said,) = explain_scales(str(file), "float32")
    assert said == "x.safetensors is marked as scaled and has no scales: its 1 weights in fp8 are cast plainly"


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_plan_refuses_a_scale_that_is_no_number(value: float, dtype: torch.dtype, tmp_path: Path) -> None:
    file, scale = tmp_path / "x.safetensors", torch.ones(2, dtype=dtype)
    for last in (1.0, 0.0, value):
        scale[1] = last
        save_file({"a.weight": torch.ones(2, 2).to(FP8), "a.weight_scale": scale}, file)
        if last in (0, 1):
            inspect_checkpoint(str(file))
    with pytest.raises(
        ConfigError, match=rf"^model\.repo=\S+: a\.weight_scale: {value:g} is no scale; a finite number"
    ):
        inspect_checkpoint(str(file))


def test_marks_are_read(folders: Callable[[str], Path]) -> None:
    """Tensors `comfy_quant` of JSON, one a layer, beside the metadata of the whole file."""
    state = store(tiny("flux")[2].transformer.state_dict(), NEW, rows=False)

    def mark(text: str) -> State:
        return state | {"proj_out.comfy_quant": torch.tensor(list(text.encode()), dtype=torch.uint8)}

    metadata = {"_quantization_metadata": json.dumps({"layers": {"proj_out": {"format": "float8_e4m3fn"}}})}
    said = '{"format": "float8_e4m3fn", "full_precision_matrix_mult": true}'
    assert_near(load_file("flux", folders("flux"), mark(said), metadata).transformer, tiny("flux")[2].transformer)
    with pytest.raises(ConfigError, match=r"proj_out\.comfy_quant says \{'format': 'float8_e4m3fn', 'convrot': True\}"):
        load_file("flux", folders("flux"), mark('{"format": "float8_e4m3fn", "convrot": true}'))


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("rows", [False, True])
def test_a_scale_is_above_0(value: float, rows: bool, folders: Callable[[str], Path]) -> None:
    state = store(tiny("flux")[2].transformer.state_dict(), NEW, rows=rows)
    state["proj_out.weight_scale"].view(-1)[-1] = value
    with pytest.raises(ConfigError, match=rf"proj_out\.weight_scale: {value:g} is no scale; a finite number above 0"):
        load_file("flux", folders("flux"), state)


def test_rows_of_zeros_may_have_a_scale_of_0() -> None:
    assert find_bad_scale(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0], [2.0]])) is None
    assert find_bad_scale(torch.tensor([[0.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0], [0.0]])) is not None


def test_half_precision_is_rounded_once(folders: Callable[[str], Path]) -> None:
    """From the product in float32, not from a product of rounded factors."""
    state = tiny("flux")[2].transformer.state_dict()
    stored = store(state, NEW, rows=True)
    family, config, _ = tiny("flux")
    folder = folders("flux")
    save_file(stored, folder / "half.safetensors")
    given = {"init": Init.pretrained, "repo": str(folder / "half.safetensors"), "components": str(folder)}
    loaded = load(family, replace(config, **given, dtype=Dtype.bfloat16), "cpu").transformer.state_dict()
    name = "transformer_blocks.0.attn.to_q"
    exact = stored[f"{name}.weight"].double() * stored[f"{name}.weight_scale"].double()
    assert torch.equal(loaded[f"{name}.weight"], exact.bfloat16())
