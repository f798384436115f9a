"""Finds the layers of a loaded model that a LoRA file's names stand for.

Names in kohya's files have underscores for dots; those for SDXL name the blocks of the U-Net as its authors do.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeGuard

from .adapter_parts import DENOISERS, TEXT_ENCODERS

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

UNET_NAMES = {
    "input_blocks_0_0": "conv_in",
    "time_embed_0": "time_embedding_linear_1",
    "time_embed_2": "time_embedding_linear_2",
    "label_emb_0_0": "add_embedding_linear_1",
    "label_emb_0_2": "add_embedding_linear_2",
    "out_0": "conv_norm_out",
    "out_2": "conv_out",
}
"""Layers of a U-Net outside its blocks: their authors' names -> diffusers'."""
UNET_PARTS = (
    ("input_blocks", "down_blocks"),
    ("middle_block", "mid_block"),
    ("output_blocks", "up_blocks"),
    ("in_layers_0", "norm1"),
    ("in_layers_2", "conv1"),
    ("emb_layers_1", "time_emb_proj"),
    ("out_layers_0", "norm2"),
    ("out_layers_3", "conv2"),
    ("skip_connection", "conv_shortcut"),
    ("downsamplers_0_op", "downsamplers_0_conv"),
)
FLUX_NORMS = {
    "img_attn.norm.query_norm": "attn.norm_q",
    "img_attn.norm.key_norm": "attn.norm_k",
    "txt_attn.norm.query_norm": "attn.norm_added_q",
    "txt_attn.norm.key_norm": "attn.norm_added_k",
    "norm.query_norm": "attn.norm_q",
    "norm.key_norm": "attn.norm_k",
}
"""Norms of FLUX: their authors' names -> diffusers'."""


def list_modules(pipe: DiffusionPipeline) -> dict[str, nn.Module]:
    """Component -> module, for the components that have weights."""
    import torch

    return {name: module for name, module in pipe.components.items() if isinstance(module, torch.nn.Module)}


def get_denoiser_name(pipe: DiffusionPipeline) -> str:
    """The component that a LoRA file is for unless it says otherwise; also the start of diffusers' names for it."""
    return "unet" if hasattr(pipe, "unet") else "transformer"


def find_component(pipe: DiffusionPipeline, layer: str, denoiser: str) -> tuple[str | None, str]:
    """(component, rest of the name) of a layer's name; no component where the model lacks that text encoder.

    denoiser: the component that the file is for.
    """
    for start, kind in TEXT_ENCODERS.items():
        if layer.startswith(start):
            return _find_text_encoder(pipe, kind), layer.removeprefix(start)
    first, _, rest = layer.partition(".")
    if first.startswith("text_encoder"):
        return (first if first in list_modules(pipe) else None), rest
    start = next((start for start in DENOISERS if layer.startswith(start)), "")
    return denoiser, layer.removeprefix(start)


def _find_text_encoder(pipe: DiffusionPipeline, kind: str) -> str | None:
    """The component that holds a text encoder of this kind."""
    classes = {name: type(module).__name__ for name, module in list_modules(pipe).items() if "text_encoder" in name}
    if kind == "t5":
        return next((name for name, class_name in classes.items() if class_name.startswith(("T5", "UMT5"))), None)
    clips = sorted(name for name, class_name in classes.items() if class_name.startswith("CLIPText"))
    return dict(zip(("clip_l", "clip_g"), clips, strict=False)).get(kind)


def is_original(layer: str, module: nn.Module) -> bool:
    """True for a name in the layout of a transformer's authors; of U-Nets, kohya's files name the layers either way."""
    return layer.startswith(("diffusion_model.", "lora_unet_")) and type(module).__name__ != "UNet2DConditionModel"


def index_layers(module: nn.Module) -> dict[str, str | None]:
    """Name of a layer, also with underscores for dots -> the layer; None where several have this name."""
    index: dict[str, str | None] = {}
    layers = [layer for layer, _ in module.named_modules() if layer and not layer.endswith(".base_layer")]
    for layer in layers:
        plain = layer.replace(".", "_")
        index[plain] = None if plain in index else layer
    return index | {layer: layer for layer in layers}


def find_layer(module: nn.Module, index: dict[str, str | None], name: str) -> str | None:
    """The layer of a component that a name from a file stands for; None if there is none, or it is not clear which.

    index: of the component, from `index_layers`.
    """
    tried = [name, f"text_model.{name}", name.removeprefix("text_model."), name.removeprefix("text_model_")]
    if type(module).__name__ == "UNet2DConditionModel":
        tried.append(_convert_unet_name(name, module.config))
    tried += [re.sub(rf"{re.escape(old)}$", new, _flux_blocks(name)) for old, new in FLUX_NORMS.items()]
    return next((found for each in tried if (found := index.get(each))), None)


def _flux_blocks(name: str) -> str:
    name = re.sub(r"^double_blocks\.", "transformer_blocks.", name)
    return re.sub(r"^single_blocks\.", "single_transformer_blocks.", name)


def _convert_unet_name(name: str, config: Any) -> str:
    """The name in diffusers, with underscores, of a layer that is named as the U-Net's authors do."""
    from diffusers.loaders.lora_conversion_utils import _maybe_map_sgm_blocks_to_diffusers

    for theirs, ours in UNET_NAMES.items():
        if name == theirs:
            return ours
    try:
        (mapped,) = _maybe_map_sgm_blocks_to_diffusers({f"lora_unet_{name}": None}, config)
    except (ValueError, IndexError):  # it has another form
        return name
    name = mapped.removeprefix("lora_unet_")
    for theirs, ours in UNET_PARTS:
        name = name.replace(theirs, ours)
    return name


def get_plain_layer(module: nn.Module, layer: str) -> nn.Module:
    """A layer of the model, without the adapters around it."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found = module.get_submodule(layer)
    return found.get_base_layer() if isinstance(found, BaseTunerLayer) else found


def is_plain(parameter: torch.Tensor | None) -> TypeGuard[torch.Tensor]:
    """True for a weight that something can be added to, and not a quantized one."""
    return parameter is not None and parameter.is_floating_point() and parameter.element_size() > 1
