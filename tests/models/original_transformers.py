"""Writes transformers of FLUX, Wan and Sana, and LTX-Video, in the layouts of their authors' own code.

The other direction of what diffusers reads. Names of weights: `src/flux/model.py` and `modules/layers.py` of
https://github.com/black-forest-labs/flux, `wan/modules/model.py` of https://github.com/Wan-Video/Wan2.1. Those of Sana
(https://github.com/NVlabs/Sana) and LTX-Video (https://github.com/Lightricks/LTX-Video) are taken from diffusers'
converters, `convert_sana_transformer_to_diffusers` and `convert_ltx_*_checkpoint_to_diffusers`.
"""

from __future__ import annotations

import re
from typing import Any

import torch

State = dict[str, torch.Tensor]

FLUX = {
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "context_embedder": "txt_in",
    "x_embedder": "img_in",
    "proj_out": "final_layer.linear",
}
FLUX_DOUBLE = {
    "norm1.linear": "img_mod.lin",
    "norm1_context.linear": "txt_mod.lin",
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
    "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
    "attn.to_out.0": "img_attn.proj",
    "attn.to_add_out": "txt_attn.proj",
    "ff.net.0.proj": "img_mlp.0",
    "ff.net.2": "img_mlp.2",
    "ff_context.net.0.proj": "txt_mlp.0",
    "ff_context.net.2": "txt_mlp.2",
}
FLUX_SINGLE = {
    "norm.linear": "modulation.lin",
    "proj_out": "linear2",
    "attn.norm_q.weight": "norm.query_norm.scale",
    "attn.norm_k.weight": "norm.key_norm.scale",
}
JOINED = {
    "attn.to_q": ("img_attn.qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
    "attn.add_q_proj": ("txt_attn.qkv", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
}
WAN = {
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
    "scale_shift_table": "head.modulation",
}
WAN_BLOCK = {
    "attn1.": "self_attn.",
    "attn2.": "cross_attn.",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "o",
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}

SANA = {
    "patch_embed.proj": "x_embedder.proj",
    "time_embed.emb.timestep_embedder.linear_1": "t_embedder.mlp.0",
    "time_embed.emb.timestep_embedder.linear_2": "t_embedder.mlp.2",
    "time_embed.linear": "t_block.1",
    "caption_projection.linear_1": "y_embedder.y_proj.fc1",
    "caption_projection.linear_2": "y_embedder.y_proj.fc2",
    "caption_norm": "attention_y_norm",
    "proj_out": "final_layer.linear",
    "scale_shift_table": "final_layer.scale_shift_table",
}
SANA_BLOCK = {
    "attn1.to_out.0": "attn.proj",
    "attn2.to_q": "cross_attn.q_linear",
    "attn2.to_out.0": "cross_attn.proj",
    "ff.conv_inverted": "mlp.inverted_conv.conv",
    "ff.conv_depth": "mlp.depth_conv.conv",
    "ff.conv_point": "mlp.point_conv.conv",
}
SANA_JOINED = {
    "attn1.to_q": ("attn.qkv", ("attn1.to_q", "attn1.to_k", "attn1.to_v")),
    "attn2.to_k": ("cross_attn.kv_linear", ("attn2.to_k", "attn2.to_v")),
}


def sana(model: Any) -> State:
    """A SanaTransformer2DModel, with what its authors' files have beside the weights."""
    state = model.state_dict()
    found = {"pos_embed": torch.ones(1, 4, 8), "y_embedder.y_embedding": torch.ones(3, 8)}
    for name, weight in state.items():
        block = re.fullmatch(r"(transformer_(blocks\.\d+\.))(.*)\.(\w+)|transformer_(blocks\.\d+\.\w+)", name)
        if block is None:
            found[_renamed(name, SANA)] = weight
        elif block[5]:
            found[block[5]] = weight
        elif block[3] in SANA_JOINED:
            joined, parts = SANA_JOINED[block[3]]
            found[f"{block[2]}{joined}.{block[4]}"] = torch.cat([state[f"{block[1]}{p}.{block[4]}"] for p in parts])
        elif not re.fullmatch(r"attn1\.to_[kv]|attn2\.to_v", block[3]):
            found[f"{block[2]}{_renamed(block[3], SANA_BLOCK)}.{block[4]}"] = weight
    return found


LTX = {"proj_in": "patchify_proj", "time_embed": "adaln_single", "norm_q": "q_norm", "norm_k": "k_norm"}
LTX_VAE = {
    "encoder.mid_block.resnets": "encoder.down_blocks.9.res_blocks",
    "decoder.mid_block.resnets": "decoder.up_blocks.0.res_blocks",
    "latents_mean": "per_channel_statistics.mean-of-means",
    "latents_std": "per_channel_statistics.std-of-means",
}


def ltx_video(transformer: Any, vae: Any) -> State:
    """A whole LTX-Video 0.9.0 whose blocks keep their number of channels, but for the text encoder."""
    found = {}
    for name, weight in transformer.state_dict().items():
        for theirs, original in LTX.items():
            name = name.replace(theirs, original)
        found[f"model.diffusion_model.{name}"] = weight
    for name, weight in vae.state_dict().items():
        if block := re.fullmatch(r"(down|up)_blocks\.(\d+)\.(\w+)\.(.*)", name.partition(".")[2]):
            name = f"{name.partition('.')[0]}.{_name_ltx_block(block[1], int(block[2]), block[3], block[4])}"
        for theirs, original in LTX_VAE.items():
            name = name.replace(theirs, original)
        found[f"vae.{name}"] = weight
    for beside in ("channel", "mean-of-stds", "mean-of-stds_over_std-of-means"):
        found[f"vae.per_channel_statistics.{beside}"] = torch.ones(128)
    return found


def _name_ltx_block(side: str, block: int, part: str, rest: str) -> str:
    """The original counts a block's layers and its changes of size and of channels through, three for each block."""
    if part == "resnets":
        return f"{side}_blocks.{min(3 * block, 8) if side == 'down' else max(3 * block, 1)}.res_blocks.{rest}"
    return f"{side}_blocks.{3 * block + (1 if side == 'down' else -1)}.{rest.removeprefix('0.')}"


def wan(model: Any) -> State:
    """A WanTransformer3DModel without an image encoder."""
    found = {}
    for name, weight in model.state_dict().items():
        block = re.fullmatch(r"(blocks\.\d+\.)(.*)", name)
        found[block[1] + _renamed(block[2], WAN_BLOCK) if block else _renamed(name, WAN)] = weight
    return found


def flux(model: Any) -> State:
    """A FluxTransformer2DModel: one matrix for query, key and value, and in single blocks for the MLP too."""
    state, found = model.state_dict(), {}
    for name, weight in state.items():
        block = re.fullmatch(r"(single_)?transformer_blocks\.(\d+)\.(.*)", name)
        if name.startswith("norm_out.linear."):
            # Scale and shift change places.
            found[f"final_layer.adaLN_modulation.1.{name.rpartition('.')[2]}"] = torch.cat(weight.chunk(2)[::-1])
        elif block is None:
            found[_renamed(name, FLUX)] = weight
        elif new := _name_in_block(block[3], single=bool(block[1])):
            prefix = f"{'single' if block[1] else 'double'}_blocks.{block[2]}."
            theirs = name.removesuffix(block[3])
            found[prefix + new[0]] = torch.cat([state[theirs + part] for part in new[1]])
    return found


def _name_in_block(name: str, *, single: bool) -> tuple[str, list[str]] | None:
    """Name in the original, and the weights that are joined in it; None for those that another one is joined with."""
    layer, _, kind = name.rpartition(".")
    if single and layer == "attn.to_q":
        return f"linear1.{kind}", [f"{part}.{kind}" for part in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")]
    if layer in JOINED:
        joined, parts = JOINED[layer]
        return f"{joined}.{kind}", [f"{part}.{kind}" for part in parts]
    if re.fullmatch(r"attn\.(to_[kv]|add_[kv]_proj)|proj_mlp", layer):
        return None
    return _renamed(name, FLUX_SINGLE if single else FLUX_DOUBLE), [name]


def _renamed(name: str, names: dict[str, str]) -> str:
    for theirs, original in names.items():
        if name.startswith(theirs) or (theirs.count(".") <= 1 and f".{theirs}" in f".{name}"):
            name = name.replace(theirs, original, 1)
    return name
