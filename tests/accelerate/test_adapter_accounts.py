"""Every tensor of a LoRA file reaches the model with its value. Values: formulas in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.accelerate.lora_files import Tensors, apply, compute, draw, read, write_pair
from tests.accelerate.random_adapters import load_tiny
from wavespeed_runner.accelerate.adapters import collect_evidence


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


def test_names_of_diffusers_first_training_scripts(tmp_path: Path) -> None:
    """With `lora_linear_layer` in text encoders, and attention processors in the U-Net."""
    _, _, pipe = load_tiny("sd15")
    query, attention = (
        "text_model.encoder.layers.0.self_attn.q_proj",
        "mid_block.attentions.0.transformer_blocks.0.attn1",
    )
    layer = next(
        name for name, _ in pipe.text_encoder.named_modules() if query.endswith(name) and name.endswith("q_proj")
    )
    text, image = read(pipe.text_encoder, f"{layer}.weight"), read(pipe.unet, f"{attention}.to_q.weight")
    size, width = len(text), len(image)
    pairs = [(draw(2, size), draw(size, 2)), (draw(2, image.shape[1]), draw(width, 2))]
    starts = (f"text_encoder.{query}.lora_linear_layer", f"unet.{attention}.processor.to_q_lora")
    tensors: Tensors = {}
    for start, (down, up) in zip(starts, pairs, strict=True):
        tensors |= {f"{start}.down.weight": down, f"{start}.up.weight": up}
    adapters = apply(pipe, tensors, tmp_path, weight=0.5, fuse=True)
    changes = [up.double() @ down.double() / 2 for down, up in pairs]
    assert torch.allclose(read(pipe.text_encoder, f"{layer}.weight"), text + changes[0], atol=1e-5)
    assert torch.allclose(read(pipe.unet, f"{attention}.to_q.weight"), image + changes[1], atol=1e-5)
    assert collect_evidence(pipe, adapters)["layers"] == {}


def test_ranks_of_many_layers_make_few_patterns(tmp_path: Path) -> None:
    """PEFT compiles each pattern for each layer, unless Python still has it."""
    _, _, pipe = load_tiny("sd15")
    tensors: Tensors = {}
    layers = [name for name, _ in pipe.text_encoder.named_modules() if name.endswith("_proj")]
    for count, layer in enumerate(layers):
        shape = pipe.text_encoder.get_submodule(layer).weight.shape
        tensors |= write_pair(f"lora_te_{layer.replace('.', '_')}", *shape, rank=(2, 2, 3, 5)[count % 4])
    apply(pipe, tensors, tmp_path)
    (config,) = pipe.text_encoder.peft_config.values()
    assert len(layers) >= 8 and config.r == 2 and sorted(config.rank_pattern.values()) == [3, 5]
    for count, layer in enumerate(layers):
        (factor,) = pipe.text_encoder.get_submodule(layer).lora_A.values()
        assert len(factor.weight) == (2, 2, 3, 5)[count % 4]
