"""Every tensor of a LoRA file reaches the model with its value, or is refused by name. Values: formulas in float64."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapters import Lora, apply_adapters, collect_evidence
from wavespeed_runner.errors import RunError

Tensors = dict[str, torch.Tensor]
GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=GENERATOR)


def write_pair(layer: str, out: int, into: int, rank: int = 2, alpha: float = 1.0, style: str = "kohya") -> Tensors:
    names = ("lora_down", "lora_up") if style == "kohya" else ("lora_A", "lora_B")
    down, up = (f"{layer}.{name}.weight" for name in names)
    return {down: draw(rank, into), up: draw(out, rank), f"{layer}.alpha": torch.tensor(alpha)}


def compute(tensors: Tensors, layer: str) -> torch.Tensor:
    """alpha / rank * up @ down, in float64."""
    down, up = (next(t for k, t in tensors.items() if k.startswith(f"{layer}.lora_{n}")) for n in _names(tensors))
    product = up.double().flatten(1) @ down.double().flatten(1)
    return float(tensors[f"{layer}.alpha"]) / len(down) * product.reshape(len(up), *down.shape[1:])


def _names(tensors: Tensors) -> tuple[str, str]:
    return ("down", "up") if any("lora_down" in key for key in tensors) else ("A", "B")


def apply(pipe: Any, tensors: Tensors, folder: Path, **options: Any) -> Any:
    save_file(tensors, folder / "x.safetensors")
    adapters = Lora(path=str(folder / "x.safetensors"), **options)
    apply_adapters(pipe, adapters)
    return adapters


def read(module: Any, name: str) -> torch.Tensor:
    return module.get_parameter(name).detach().double().clone()


@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_scales_that_differ_from_layer_to_layer(name: str, tmp_path: Path) -> None:
    """In U-Net and text encoders, linear layers and convolutions: diffusers takes one scale for some of them."""
    _, _, pipe = load_tiny(name)
    first = "lora_te_" if name == "sd15" else "lora_te1_"
    parts = {"unet": "lora_unet_", "text_encoder": first, **({"text_encoder_2": "lora_te2_"} if name == "sdxl" else {})}
    wanted = ("to_q", "to_out.0", "ff.net.2", "conv1", "time_emb_proj", "downsamplers.0.conv", "q_proj", "fc1")
    tensors: Tensors = {}
    expected = {}
    for component, start in parts.items():
        for count, (layer, module) in enumerate(getattr(pipe, component).named_modules()):
            if not layer.endswith(wanted) or not hasattr(module, "weight"):
                continue
            weight, rank = module.weight, 2 + count % 3
            key = start + layer.replace(".", "_")
            tensors[f"{key}.lora_down.weight"] = draw(rank, *weight.shape[1:])
            tensors[f"{key}.lora_up.weight"] = draw(len(weight), rank, *(1 for _ in weight.shape[2:]))
            tensors[f"{key}.alpha"] = torch.tensor(1.0 + count % 4)
            expected[component, f"{layer}.weight"] = weight.double().clone() + compute(tensors, key)
    apply(pipe, tensors, tmp_path, fuse=True)
    assert {component for component, _ in expected} == set(parts)
    for (component, layer), weight in expected.items():
        assert torch.allclose(read(getattr(pipe, component), layer), weight, atol=1e-4), layer


def test_every_part_of_a_flux_file_of_comfyui(tmp_path: Path) -> None:
    """Fused q, k and v, layers outside the blocks, biases, norms, CLIP and T5: each where it belongs."""
    _, _, pipe = load_tiny("flux")
    transformer, block = pipe.transformer, "diffusion_model.double_blocks.0"
    width = transformer.transformer_blocks[0].attn.to_q.in_features
    clip, t5 = pipe.text_encoder, pipe.text_encoder_2
    fused, bias = f"{block}.img_attn.qkv", draw(3 * width)
    query = "text_encoders.t5xxl.transformer.encoder.block.0.layer.0.SelfAttention.q"
    clip_query = "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj"
    shape = next(part.weight.shape for name, part in clip.named_modules() if name.endswith("0.self_attn.q_proj"))
    norm = draw(transformer.transformer_blocks[0].attn.norm_q.weight.numel())
    tensors = {
        **write_pair(fused, 3 * width, width, alpha=3.0),
        f"{fused}.diff_b": bias,
        **write_pair("diffusion_model.img_in", width, transformer.x_embedder.in_features),
        f"{block}.img_attn.norm.query_norm.diff": norm,
        **write_pair(query, *t5.get_submodule("encoder.block.0.layer.0.SelfAttention.q").weight.shape),
        **write_pair(clip_query, *shape),
    }
    before = {
        "q": read(transformer, "transformer_blocks.0.attn.to_q.weight"),
        "v": read(transformer, "transformer_blocks.0.attn.to_v.weight"),
        "k_bias": read(transformer, "transformer_blocks.0.attn.to_k.bias"),
        "norm": read(transformer, "transformer_blocks.0.attn.norm_q.weight"),
        "x": read(transformer, "x_embedder.weight"),
        "t5": read(t5, "encoder.block.0.layer.0.SelfAttention.q.weight"),
    }
    adapters = apply(pipe, tensors, tmp_path, weight=0.5, fuse=True)
    change = 0.5 * compute(tensors, fused)
    after = {
        "q": (transformer, "transformer_blocks.0.attn.to_q.weight", change[:width]),
        "v": (transformer, "transformer_blocks.0.attn.to_v.weight", change[2 * width :]),
        "k_bias": (transformer, "transformer_blocks.0.attn.to_k.bias", 0.5 * bias[width : 2 * width]),
        "norm": (transformer, "transformer_blocks.0.attn.norm_q.weight", 0.5 * norm),
        "x": (transformer, "x_embedder.weight", 0.5 * compute(tensors, "diffusion_model.img_in")),
        "t5": (t5, "encoder.block.0.layer.0.SelfAttention.q.weight", 0.5 * compute(tensors, query)),
    }
    for name, (module, parameter, difference) in after.items():
        assert torch.allclose(read(module, parameter), before[name] + difference, atol=1e-5), name
    assert collect_evidence(pipe, adapters)["differences"] == {"transformer": 4}  # type: ignore[index]


def test_the_clip_of_a_model_whose_first_encoder_is_another(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("hunyuan_video")
    layers = dict(pipe.text_encoder_2.named_modules())
    layer = next(name for name in layers if name.endswith("layers.0.mlp.fc1"))
    key = "lora_te1_text_model_encoder_layers_0_mlp_fc1"
    tensors, before = write_pair(key, *layers[layer].weight.shape), read(pipe.text_encoder_2, f"{layer}.weight")
    apply(pipe, tensors, tmp_path, fuse=True)
    assert torch.allclose(read(pipe.text_encoder_2, f"{layer}.weight"), before + compute(tensors, key), atol=1e-6)


def test_alpha_in_comfyuis_files_for_flux_2(tmp_path: Path) -> None:
    """diffusers' conversion of these refuses an alpha."""
    _, _, pipe = load_tiny("flux2")
    attention, key = pipe.transformer.transformer_blocks[0].attn, "diffusion_model.double_blocks.0.img_attn.qkv"
    width = attention.to_q.in_features
    tensors = write_pair(key, 3 * len(attention.to_q.weight), width, alpha=3.0, style="peft")
    before = torch.cat([part.weight.detach().double() for part in (attention.to_q, attention.to_k, attention.to_v)])
    apply(pipe, tensors, tmp_path, fuse=True)
    after = torch.cat([part.weight.detach().double() for part in (attention.to_q, attention.to_k, attention.to_v)])
    assert torch.allclose(after, before + compute(tensors, key), atol=1e-5)


@pytest.mark.parametrize("name", ["wan21", "qwen_image"])
def test_alpha_in_kohyas_files_for_transformers(name: str, tmp_path: Path) -> None:
    """diffusers' conversions of these need an alpha for each layer, and that for Wan each layer of each block."""
    _, _, pipe = load_tiny(name)
    attention = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0"}
    ffn = {"ffn_0": "ffn.net.0.proj", "ffn_2": "ffn.net.2"}
    wan = {
        f"{their}_attn_{a}": f"{our}.{b}"
        for their, our in (("self", "attn1"), ("cross", "attn2"))
        for a, b in attention.items()
    } | ffn
    blocks = range(len(pipe.transformer.blocks) if name == "wan21" else 0)
    theirs = {f"lora_unet_blocks_{i}_{their}": f"blocks.{i}.{our}" for i in blocks for their, our in wan.items()}
    if name == "qwen_image":
        theirs = {
            f"transformer_blocks.0.attn.{layer}": f"transformer_blocks.0.attn.{layer}" for layer in ("to_q", "to_k")
        }
    tensors, expected = {}, {}
    for count, (key, layer) in enumerate(theirs.items()):
        before = read(pipe.transformer, f"{layer}.weight")
        part = write_pair(key, *before.shape, rank=2 + count % 3, alpha=1.0 + count % 4)
        tensors |= part
        expected[layer] = before + compute(part, key)
    apply(pipe, tensors, tmp_path, fuse=True)
    for layer, weight in expected.items():
        assert torch.allclose(read(pipe.transformer, f"{layer}.weight"), weight, atol=1e-5), layer


def test_differences_of_a_wan_file(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("wan21")
    transformer, block = pipe.transformer, "diffusion_model.blocks.0"
    layer = transformer.blocks[0].attn1
    width = layer.to_q.in_features
    theirs = {
        "blocks.0.attn1.norm_q.weight": (f"{block}.self_attn.norm_q.diff", layer.norm_q.weight),
        "blocks.0.attn1.to_k.bias": (f"{block}.self_attn.k.diff_b", layer.to_k.bias),
        "blocks.0.norm2.bias": (f"{block}.norm3.diff_b", transformer.blocks[0].norm2.bias),
        "proj_out.weight": ("diffusion_model.head.head.diff", transformer.proj_out.weight),
    }
    tensors = write_pair(f"{block}.self_attn.q", width, width, style="peft")
    expected = {}
    for name, (key, parameter) in theirs.items():
        tensors[key] = draw(*parameter.shape)
        expected[name] = parameter.detach().double() + 0.7 * tensors[key].double()
    query = read(transformer, "blocks.0.attn1.to_q.weight") + 0.7 * compute(tensors, f"{block}.self_attn.q")
    adapters = apply(pipe, tensors, tmp_path, weight=0.7, fuse=True)
    for name, value in expected.items():
        assert torch.allclose(read(transformer, name), value, atol=1e-5), name
    assert torch.allclose(read(transformer, "blocks.0.attn1.to_q.weight"), query, atol=1e-5)
    assert collect_evidence(pipe, adapters)["differences"] == {"transformer": 4}  # type: ignore[index]


def test_norms_of_lycoris_by_both_names_of_a_unet(tmp_path: Path) -> None:
    _, _, pipe = load_tiny("sdxl")
    names = {
        "lora_unet_down_blocks_1_attentions_0_norm": "down_blocks.1.attentions.0.norm",
        "lora_unet_input_blocks_1_0_in_layers_0": "down_blocks.0.resnets.0.norm1",
        "lora_unet_out_0": "conv_norm_out",
    }
    tensors, expected = {}, {}
    for key, layer in names.items():
        for part, parameter in (("w_norm", "weight"), ("b_norm", "bias")):
            before = read(pipe.unet, f"{layer}.{parameter}")
            tensors[f"{key}.{part}"] = draw(*before.shape)
            expected[f"{layer}.{parameter}"] = before + tensors[f"{key}.{part}"]
    apply(pipe, tensors, tmp_path)
    for name, value in expected.items():
        assert torch.allclose(read(pipe.unet, name), value, atol=1e-6), name


@pytest.mark.parametrize(
    ("name", "key", "shape", "says"),
    [
        ("flux", "lora_unet_double_blocks_9_img_attn_proj", (32, 32), "lora_unet_double_blocks_9_img_attn_proj"),
        ("wan21", "diffusion_model.blocks.9.self_attn.q", (32, 32), "diffusion_model.blocks.9.self_attn.q"),
        ("sd15", "lora_te2_text_model_encoder_layers_0_self_attn_q_proj", (32, 32), "no such text encoder"),
        ("sdxl", "lora_te3_encoder_block_0_layer_0_SelfAttention_q", (32, 32), "no such text encoder"),
        (
            "sd15",
            "lora_te_text_model_encoder_layers_9_self_attn_q_proj",
            (32, 32),
            "layers_9_self_attn_q_proj: .*no",
        ),
        ("sd15", "lora_unet_mid_block_attentions_9_proj_in", (32, 32), "attentions_9_proj_in"),
    ],
)
def test_a_part_without_a_place_is_named(
    name: str, key: str, shape: tuple[int, int], says: str, tmp_path: Path
) -> None:
    _, _, pipe = load_tiny(name)
    with pytest.raises(RunError, match=rf"x\.safetensors: does not fit this model: .*{says}") as caught:
        apply(pipe, write_pair(key, *shape), tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "shape", "says"),
    [
        ("diffusion_model.blocks.9.self_attn.norm_q.diff", (32,), r"blocks\.9\.self_attn\.norm_q.*no such layer"),
        ("diffusion_model.blocks.0.self_attn.norm_q.diff", (5,), r"shape is \[5\], and the model's weight has"),
        ("diffusion_model.blocks.0.self_attn.norm_q.diff_b", (32,), "has no bias"),
    ],
)
def test_a_difference_without_a_place_is_named(key: str, shape: tuple[int], says: str, tmp_path: Path) -> None:
    _, _, pipe = load_tiny("wan21")
    with pytest.raises(RunError, match=rf"does not fit this model: .*{says}"):
        apply(pipe, {key: draw(*shape)}, tmp_path)


def test_zeros_without_a_place_change_nothing(tmp_path: Path) -> None:
    """A trainer writes the text encoder that it did not train; diffusers' test for it is any non-zero value."""
    _, _, pipe = load_tiny("wan21")
    width = pipe.transformer.blocks[0].attn1.to_q.in_features
    tensors = write_pair("diffusion_model.blocks.0.self_attn.q", width, width)
    tensors["diffusion_model.blocks.9.norm3.diff"] = torch.zeros(width)
    zero = write_pair("text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1", 4, 4)
    tensors |= {key: tensor * (0 if "up" in key else 1) for key, tensor in zero.items()}
    adapters = apply(pipe, tensors, tmp_path)
    assert collect_evidence(pipe, adapters) == {"lora": [1.0], "fused": False, "layers": {"transformer": 1}}


def test_a_part_of_a_layer_that_is_lost_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of a fused layer can be lost without that any tensor is: then its strength is less."""
    _, _, pipe = load_tiny("sd15")
    layer = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = write_pair(layer, *pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn1.to_q.weight.shape)
    convert = type(pipe).lora_state_dict

    def lose(given: Tensors, **options: Any) -> Any:
        state, *rest = convert(given, **options)
        return ({key: tensor * (0.5 if "up" in key else 1) for key, tensor in state.items()}, *rest)

    monkeypatch.setattr(type(pipe), "lora_state_dict", lose)
    with pytest.raises(RunError, match=re.escape(f"{layer}: diffusers gives it 0.5 times its strength")):
        apply(pipe, tensors, tmp_path)
