"""Tells by the names and shapes in a LoRA file's header that it is for another kind of model, or for none.

So that it is refused by the plan, in a moment, and not after a model has been loaded. What the header does not tell is
found when the file is loaded.
"""

from __future__ import annotations

import re

from ..config.schema import Init, ModelConfig
from ..models.family import Blocks, Family, UNetBlocks
from .adapter_parts import DENOISERS, DIFFERENCES, DOWN, LOHA, LOKR, TEXT_ENCODERS, UP, split_part

UNET = re.compile(
    r"(?:^|[._])(?:(?:down|up)_blocks[._]\d|mid_block[._]|(?:input|output)_blocks[._]\d|middle_block[._]\d)"
)
"""In the name of a U-Net's layer: diffusers' names, then those of Stable Diffusion's authors."""
TRANSFORMER = re.compile(
    r"^(?:[\w.]*?[._])?(?:single_transformer_blocks|double_blocks|single_blocks|joint_blocks|double_stream_blocks"
    r"|single_stream_blocks)[._]\d|^(?:transformer\.|diffusion_model\.|base_model\.model\.)?(?:transformer_)?blocks\.\d"
)
"""In the name of a transformer's layer, diffusers' and authors': no U-Net has it, or not at its start."""
LAYER = re.compile(
    r"\d|embed|proj|attn|norm|linear|conv|time|guidance|vector|final|head|_in\b|_out\b|to_[qkv]\b|mlp|ff\b"
)
"""In the name of any model's layer: those of blocks have a number, and the others a word of these."""
CONTEXT = re.compile(r"attn2[._]to_[kv]$")
WIDTHS = {768: "Stable Diffusion 1", 1024: "Stable Diffusion 2", 2048: "SDXL"}
"""Width of the prompt that the cross-attention of a U-Net reads -> the models of that width."""
OF_FAMILY = {"sd": (768, 1024), "sdxl": (2048,)}


def find_foreign(shapes: dict[str, list[int]], model: ModelConfig, family: Family) -> str | None:
    """Why a file is for no model at all, or for another kind than this one; None if the header does not tell.

    Args:
        shapes: name -> shape of the file's tensors.
        model: of the run.
        family: its implementation.
    """
    parts = (*DOWN, *UP, *LOHA, *LOKR, *DIFFERENCES)
    layers: dict[str, str] = {}
    for key in shapes:
        if named := split_part(key, parts):
            layers.setdefault(named[0], key)
    first = next(iter(shapes))
    if not layers and not any("lora" in key.lower() for key in shapes):
        return f"{first}: none of its {len(shapes)} tensors is named as one of a LoRA is; use a LoRA file"
    known = ("text_encoder", *TEXT_ENCODERS, *DENOISERS)
    if layers and not any(name.startswith(known) or LAYER.search(name) for name in layers):
        return f"{layers[next(iter(layers))]}: no model has a layer of this name; use a file for this model"
    own = [name for name in layers if not name.startswith(("text_encoder", *TEXT_ENCODERS))]
    of_unet = [name for name in own if UNET.search(name)]
    if of_unet and isinstance(family.blocks, Blocks):
        return (
            f"{layers[of_unet[0]]}: a layer of a U-Net, such as Stable Diffusion's or SDXL's, and model={model.name} "
            "is a transformer; use a file for this model"
        )
    of_transformer = [name for name in own if TRANSFORMER.search(name)]
    if of_transformer and not of_unet and isinstance(family.blocks, UNetBlocks):
        return (
            f"{layers[of_transformer[0]]}: a layer of a transformer, such as FLUX's or SD3's, and model={model.name} "
            "is a U-Net; use a file for this model"
        )
    return _find_other_width(shapes, model) if model.init is Init.pretrained else None


def _find_other_width(shapes: dict[str, list[int]], model: ModelConfig) -> str | None:
    """Which U-Net a file is for, where its cross-attention reads prompts of another width than the model's."""
    fitting = OF_FAMILY.get(model.name, ())
    for key, shape in shapes.items():
        named = split_part(key, DOWN)
        width = shape[1] if named and CONTEXT.search(named[0]) and len(shape) == 2 else None
        if fitting and width in WIDTHS and width not in fitting:
            return f"{key}: it reads prompts of width {width}, as {WIDTHS[width]} has it; use a file for this model"
    return None
