"""Which layers of tiny pipelines are quantized, which are left and why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tests.accelerate.quantized import quantize, swapped
from tests.models.shipped import config_of, list_variants
from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate.quant_options import CustomQuant, LayerScheme, QuantOptions, find_misfit
from wavespeed_runner.accelerate.quant_targets import choose_layers, layers_of
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.registry import find_implementation, lookup


def count(names: dict[str, int]) -> int:
    return sum(names.values())


def test_blocks_of_a_transformer_are_quantized_without_their_modulation() -> None:
    pipe, evidence = quantize("flux", QuantOptions(name="int8_dq"))
    layers = layers_of(pipe, "transformer")
    expected = {name for name in layers if "transformer_blocks." in name and "norm" not in name}
    assert swapped(pipe) == expected and len(expected) == 44
    found = evidence["transformer"]
    assert found["swapped"]["layers"] == 44 and found["swapped"]["tensors"] == {"Int8Tensor": 44}
    assert found["swapped"]["names"]["int8_dq"]["single_transformer_blocks.*.proj_out"] == 4
    assert found["left"]["layers"] == len(layers) - 44
    assert found["left"]["names"]["outside of the repeated blocks"]["norm_out.linear"] == 1
    assert count(found["left"]["names"]["modulation"]) == 8


def test_the_transformers_of_a_unet_are_quantized() -> None:
    pipe, evidence = quantize("sdxl", QuantOptions(name="int8_wo"))
    expected = {name for name in layers_of(pipe, "unet") if ".transformer_blocks." in name}
    assert swapped(pipe, "unet") == expected and len(expected) == evidence["unet"]["swapped"]["layers"] > 100
    left = evidence["unet"]["left"]["names"]["outside of the repeated blocks"]
    assert {"mid_block.resnets.*.time_emb_proj", "down_blocks.*.attentions.*.proj_in"} <= left.keys()


def test_both_denoisers_are_quantized() -> None:
    pipe, evidence = quantize("wan22", QuantOptions(name="fp8_wo"))
    for component in ("transformer", "transformer_2"):
        assert swapped(pipe, component) == {n for n in layers_of(pipe, component) if n.startswith("blocks.")}
        assert evidence[component]["swapped"]["tensors"] == {"Float8Tensor": 20}


@pytest.mark.parametrize("name", list_variants())
def test_every_family_has_layers_to_quantize(name: str) -> None:
    config = config_of(name)
    family = find_implementation("model", config)
    pipe = family.build(config, torch.float32, "meta")
    chosen = choose_layers(pipe, family, QuantOptions(name="int8_dq"), "cpu")
    assert set(chosen) == {part for part in (family.denoiser, family.denoiser_2) if part}
    for choices in chosen.values():
        names = [name for name, choice in choices.items() if choice.scheme]
        attention = [name for name in names if name.endswith(("to_q", "to_qkv_mlp_proj"))]
        assert len(names) > 10 and attention
        # What computes a scale and a shift from the timestep is called one of these in every family.
        assert not [name for name in names if any(word in name.lower() for word in ("norm", "_mod.", "embed", "adaln"))]


def test_text_encoders_are_quantized_if_asked() -> None:
    pipe, evidence = quantize("flux", QuantOptions(name="int8_wo", components=["text_encoder", "text_encoder_2"]))
    assert set(evidence) == {"text_encoder", "text_encoder_2"} and not swapped(pipe)
    names = evidence["text_encoder_2"]["swapped"]["names"]["int8_wo"]
    assert names["encoder.block.*.layer.*.SelfAttention.q"] == 2
    assert "text_model.embeddings" not in str(evidence)


def test_layers_are_skipped_and_added_by_pattern() -> None:
    options = QuantOptions(name="int8_wo", skip=[r".*\.ff\..*", r".*\.0\.attn\.to_q"], also=["x_embedder", r".*norm.*"])
    pipe, evidence = quantize("flux", options)
    names = swapped(pipe)
    assert {"x_embedder", "norm_out.linear", "transformer_blocks.1.norm1.linear"} <= names
    assert "transformer_blocks.1.attn.to_q" in names and "transformer_blocks.0.attn.to_q" not in names
    assert evidence["transformer"]["left"]["names"][r"quant.skip .*\.ff\..*"] == {
        "transformer_blocks.*.ff.net.*.proj": 2,
        "transformer_blocks.*.ff.net.*": 2,
    }


def test_the_first_pattern_decides() -> None:
    options = CustomQuant(
        layers=[
            LayerScheme(pattern=r".*\.0\..*to_k"),
            LayerScheme(pattern=r".*to_[qk]", scheme="int8_dq"),
            LayerScheme(pattern=r"transformer_blocks\..*", scheme="fp8_wo"),
            LayerScheme(pattern=r".*\.q", scheme="int8_wo", component="text_encoder_2"),
        ]
    )
    pipe, evidence = quantize("flux", options)
    layers = layers_of(pipe, "transformer")
    kinds = {name: type(layer.weight).__name__ for name, layer in layers.items()}
    assert kinds["transformer_blocks.0.attn.to_k"] == "Parameter"
    assert kinds["transformer_blocks.0.attn.to_q"] == "Int8Tensor" == kinds["single_transformer_blocks.1.attn.to_k"]
    assert kinds["transformer_blocks.0.norm1.linear"] == "Float8Tensor" and kinds["x_embedder"] == "Parameter"
    names = evidence["transformer"]["swapped"]["names"]
    assert set(names) == {"int8_dq", "fp8_wo"} and count(names["int8_dq"]) == 10
    assert evidence["text_encoder_2"]["swapped"]["layers"] == 2


def test_entries_for_the_denoiser_and_for_it_by_name_count_in_their_order() -> None:
    entries = [
        LayerScheme(component="denoiser", pattern=r".*\.to_q", scheme="int8_wo"),
        LayerScheme(component="transformer", pattern=r".*\.to_[qk]", scheme="fp8_wo"),
    ]
    pipe, _ = quantize("flux", CustomQuant(layers=entries))
    kinds = {name: type(layers_of(pipe, "transformer")[name].weight).__name__ for name in swapped(pipe)}
    assert {name.rpartition(".")[2]: kind for name, kind in kinds.items()} == {
        "to_q": "Int8Tensor",
        "to_k": "Float8Tensor",
    }


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (QuantOptions(name="int8_wo", skip=["attn.to_q"]), r"quant\.skip=attn\.to_q: it matches no .*attn\.to_q"),
        (QuantOptions(name="int8_wo", skip=["x_embedder"]), r"quant\.skip=x_embedder: .* leave it out"),
        (QuantOptions(name="int8_wo", also=[".*to_q"]), r"quant\.also=\.\*to_q: .* leave it out"),
        (
            QuantOptions(name="int8_wo", also=["x_embedder"], skip=["x_embedder"]),
            r"quant\.also=x_embedder: .* another pattern decides about them",
        ),
        (QuantOptions(name="int8_wo", also=["x_embeder"]), r"quant\.also=x_embeder: .* nearest: x_embedder"),
        (QuantOptions(name="int8_wo", components=["text_encoder_3"]), r"allowed: denoiser, .*text_encoder_2"),
        (QuantOptions(name="int8_wo", components=["vae"]), r"components=vae: it is not known which .*quant=custom"),
        (QuantOptions(name="int8_wo", skip=[".*"]), "none of the 62 linear layers"),
        (
            CustomQuant(layers=[LayerScheme(pattern=p, scheme="int8_wo") for p in (".*to_q", r".*attn\.to_q")]),
            r"quant\.layers=\.\*attn.*another pattern decides",
        ),
    ],
)
def test_what_takes_no_effect_is_an_error(options: Any, says: str) -> None:
    with pytest.raises(RunError, match=says):
        quantize("flux", options)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: QuantOptions(name="int8_wo", skip=["*x"]), r"quant\.skip=\*x: not a regular expression"),
        (lambda: QuantOptions(name="int8_wo", components=[]), r"quant\.components=\[\]"),
        (lambda: CustomQuant(layers=[LayerScheme(pattern="x", scheme="int8")]), r"quant\.layers\[0\]\.scheme=int8"),
        (lambda: CustomQuant(layers=[LayerScheme(pattern="(")]), r"quant\.layers\[0\]\.pattern=\(: not a regular"),
    ],
)
def test_options_that_cannot_be_meant(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make()


def test_shapes_that_a_scheme_cannot_take_are_left_and_said() -> None:
    family, _, pipe = tiny("flux")
    pipe = copy.copy(pipe)
    pipe.__dict__["transformer"] = copy.deepcopy(pipe.transformer)
    pipe.transformer.proj_out = torch.nn.Linear(64, 20)

    def choose(name: str, device: str) -> dict[str, Any]:
        also = QuantOptions(name=name, also=["proj_out"])
        return choose_layers(pipe, family, also, device)["transformer"]

    left = choose("fp8_dq", "cuda")
    assert (left["proj_out"].scheme, left["transformer_blocks.0.attn.to_q"].scheme) == (None, "fp8_dq")
    assert left["proj_out"].reason == "fp8_dq needs multiples of 16 inputs and 16 outputs"
    assert "multiples of 8" in choose("int8_dq", "cuda:1")["proj_out"].reason
    assert choose("int8_dq", "cpu")["proj_out"].scheme == "int8_dq"
    assert choose("fp8_dq_row", "cuda")["transformer_blocks.0.attn.to_q"].reason == "fp8_dq_row needs bfloat16 weights"
    assert choose("int4_wo", "cuda")["transformer_blocks.0.attn.to_q"].reason == "int4_wo needs bfloat16 weights"


def test_a_layer_that_torchao_takes_for_a_block_is_left() -> None:
    """On a GPU it failed in the first step: `input_tensor must be 1x128 scaled`."""
    from torchao.float8.inference import _is_128_128_scaled
    from torchao.quantization import Float8Tensor
    from torchao.quantization.granularity import PerTensor

    for shape, mistaken in (((128, 128), True), ((256, 128), False), ((128, 256), False)):
        weight = Float8Tensor.from_hp(torch.ones(shape), granularity=PerTensor())
        assert _is_128_128_scaled(weight) is mistaken, "torchao has changed: quantize these layers too"
        assert bool(find_misfit("fp8_dq", shape[1], shape[0], "float32", "cuda")) is mistaken
    assert not find_misfit("fp8_dq_row", 128, 128, "bfloat16", "cuda")


def test_pipelines_without_a_family_use_the_blocks_that_diffusers_names() -> None:
    generic = lookup("model", "generic").implementation
    pipe = tiny("flux")[2]
    chosen = choose_layers(pipe, generic, QuantOptions(name="int8_wo"), "cpu")["transformer"]
    expected = choose_layers(pipe, tiny("flux")[0], QuantOptions(name="int8_wo"), "cpu")["transformer"]
    assert chosen == expected
    with pytest.raises(RunError, match=r"which blocks of a PixArtTransformer2DModel are repeated; .*quant=custom"):
        choose_layers(tiny("pixart_sigma")[2], generic, QuantOptions(name="int8_wo"), "cpu")
