"""Which tensors of a folder's text encoders are no part of the encoder: published ones hold a head or a decoder too."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ...errors import make_printable
from .folder_gate import list_components
from .safetensors_file import list_weight_files, read_tensor_names

T5 = ("lm_head", "decoder")
TOWER = ("logit_scale", "visual_projection", "vision_model")
UNUSED = {
    "T5EncoderModel": T5,
    "UMT5EncoderModel": T5,
    "CLIPTextModel": (*TOWER, "text_projection"),
    "CLIPTextModelWithProjection": TOWER,
}
"""Class of transformers -> first part of the names of weights that it has no use for."""


def explain_heads(where: str, folder: Path, without: Collection[str], weights: str | None) -> list[str]:
    """A sentence for each text encoder of an inspected diffusers folder with tensors that the encoder leaves out.

    Args:
        where: `key=value` of the folder, for messages.
        folder: holds the model_index.json.
        without: components that are not loaded.
        weights: `model.weights`.
    """
    said = []
    for name, (_, class_name) in sorted(list_components(where, folder).items()):
        if name in without or class_name not in UNUSED:
            continue
        held = [tensor for file in list_weight_files(folder / name, weights) for tensor in read_tensor_names(file)]
        if left := sorted({tensor for tensor in held if tensor.partition(".")[0] in UNUSED[class_name]}):
            tensors = f"{len(left)} tensors" if len(left) > 1 else "1 tensor"
            said.append(
                make_printable(f"{tensors} of {name} left out, the first is {left[0]}: no part of a {class_name}")
            )
    return said
