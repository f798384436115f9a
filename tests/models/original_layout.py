"""Writes a Stable Diffusion pipeline as one state dict in the layout of CompVis' and Stability AI's own code.

The other direction of what diffusers' `from_single_file` reads. Names of weights: `ldm/modules/diffusionmodules/` of
https://github.com/CompVis/latent-diffusion (U-Net, VAE), OpenCLIP's `transformer.py` and OpenAI's CLIP for the text
encoders.
"""

from __future__ import annotations

import re
from typing import Any

import torch

State = dict[str, torch.Tensor]

PLACE = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)")

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
UNET = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
}
VAE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "down_blocks.": "down.",
    "resnets.": "block.",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "mid_block.block.0": "mid.block_1",
    "mid_block.block.1": "mid.block_2",
    "mid_block.attentions.0": "mid.attn_1",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}
OPENCLIP = {
    "encoder.layers.": "transformer.resblocks.",
    "embeddings.token_embedding.weight": "token_embedding.weight",
    "embeddings.position_embedding.weight": "positional_embedding",
    "final_layer_norm": "ln_final",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
    "text_projection.weight": "text_projection",
}


def _renamed(name: str, names: dict[str, str]) -> str:
    for theirs, original in names.items():
        name = name.replace(theirs, original)
    return name


def unet(model: Any) -> State:
    """Blocks are counted through: each layer is one, and each downsampler; upsamplers belong to the layer before."""
    layers, state = model.config.layers_per_block + 1, model.state_dict()
    found: State = {}
    for name, weight in state.items():
        place = PLACE.fullmatch(name)
        if place is None:
            original = _renamed(name, UNET)
            found[_renamed(original, RESNET) if "resnets" in name else original] = weight
            continue
        side, block, kind, layer, rest = place.groups()
        index, part = int(block) * layers + int(layer), 0 if kind == "resnets" else 1
        if kind == "resnets":
            rest = _renamed(rest, RESNET)
        elif kind == "downsamplers":
            index, part, rest = int(block) * layers + layers - 1, 0, rest.replace("conv", "op")
        elif kind == "upsamplers":
            index += layers - 1
            part = 2 if f"up_blocks.{block}.attentions.0.norm.weight" in state else 1
        found[f"{'input' if side == 'down' else 'output'}_blocks.{index + (side == 'down')}.{part}.{rest}"] = weight
    return found


def vae(model: Any) -> State:
    """Levels of the decoder are counted from the image; attention consists of 1 x 1 convolutions."""
    last = len(model.config.up_block_types) - 1
    found: State = {}
    for name, weight in model.state_dict().items():
        original = re.sub(r"up_blocks\.(\d+)", lambda place: f"up.{last - int(place[1])}", name)
        original = _renamed(original, VAE)
        flat = "mid.attn_1" in original and weight.dim() == 2
        found[original] = weight[:, :, None, None] if flat else weight
    return found


def clip(model: Any) -> State:
    """OpenAI's CLIP by way of transformers, with a table that it used to write."""
    found = {f"transformer.text_model.{_bare(name)}": weight for name, weight in model.state_dict().items()}
    return found | {"transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}


def open_clip(model: Any) -> State:
    """OpenCLIP: one matrix for query, key and value, and the projection turned."""
    state = {_bare(name): weight for name, weight in model.state_dict().items()}
    found: State = {}
    for name, weight in state.items():
        if ".q_proj." in name:
            three = [state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")]
            joined = _renamed(name, OPENCLIP).replace("self_attn.q_proj.", "attn.in_proj_")
            found[f"model.{joined}"] = torch.cat(three)
        elif ".k_proj." not in name and ".v_proj." not in name:
            found[f"model.{_renamed(name, OPENCLIP)}"] = weight.T if name == "text_projection.weight" else weight
    return found


def _bare(name: str) -> str:
    return name.removeprefix("text_model.")


def build_state_dict(pipe: Any) -> State:
    """The checkpoint of a StableDiffusionPipeline or a StableDiffusionXLPipeline."""
    parts = {"model.diffusion_model": unet(pipe.unet), "first_stage_model": vae(pipe.vae)}
    if hasattr(pipe, "text_encoder_2"):
        parts["conditioner.embedders.0"] = clip(pipe.text_encoder)
        parts["conditioner.embedders.1"] = open_clip(pipe.text_encoder_2)
    elif pipe.text_encoder.config.hidden_act == "gelu":
        parts["cond_stage_model"] = open_clip(pipe.text_encoder)
    else:
        parts["cond_stage_model"] = clip(pipe.text_encoder)
    named = {f"{part}.{name}": weight for part, state in parts.items() for name, weight in state.items()}
    return {name: weight.contiguous() for name, weight in named.items()}
