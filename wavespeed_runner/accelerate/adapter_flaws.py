"""Why a LoRA file cannot be applied: by the names, shapes and values of its tensors, or the model's first layer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from ..inputs.limits import MAX_RANK
from .adapter_file import find_hostile
from .adapter_lycoris import find_unusable
from .adapter_parts import DOWN, find_bad_dora, find_half, find_partial, find_twice, find_unsupported, split_part

if TYPE_CHECKING:
    import torch
    from torch import nn

CONTROL = (
    "a control LoRA (as of Canny or Depth) reads a control image beside the latents, which no graph gives here; use "
    "another LoRA, or graph=image_to_image to start from an image"
)
FIRST = ("x_embedder", "img_in")
"""The layer that reads the latents: diffusers' name, and that of FLUX's authors."""


def find_flaw(shapes: dict[str, list[int]], weight: float) -> str | None:
    """What is wrong with a file at a weight, whatever the model; None if nothing is. shapes: of its tensors."""
    if not shapes:
        return "it holds no tensors of a LoRA; use another file"
    return (
        find_unsupported(shapes)
        or find_unusable(shapes)
        or find_partial(shapes)
        or find_bad_dora(shapes, weight)
        or find_half(shapes)
        or find_twice(shapes)
        or _find_high_rank(shapes)
        or _find_control_file(shapes)
    )


def _find_high_rank(shapes: dict[str, list[int]]) -> str | None:
    """The first factor of a LoRA of more rows than any has: a small file could ask for much work with them."""
    high = next((key for key, shape in shapes.items() if split_part(key, DOWN) and shape[:1] > [MAX_RANK]), None)
    return high and f"{high}: a rank of {shapes[high][0]}; at most {MAX_RANK} is applied; resize the LoRA"


def _find_control_file(shapes: dict[str, list[int]]) -> str | None:
    """The first layer of a control LoRA of FLUX's authors: diffusers tells these by their norms."""
    first = "img_in.lora_A.weight"
    return (
        f"{first}: {CONTROL}" if first in shapes and any(key.endswith("query_norm.scale") for key in shapes) else None
    )


def find_control(tensors: dict[str, torch.Tensor], denoiser: nn.Module) -> str | None:
    """The first layer of a file if it has more inputs than the model's: diffusers would widen the model's for it.

    A control image is as wide as the latents, and stands beside them.
    """
    first: Any = getattr(denoiser, FIRST[0], None)
    width = getattr(first, "in_features", None)
    for key, tensor in tensors.items():
        named = split_part(key, DOWN)
        if width and named and named[0].endswith(FIRST) and tensor.dim() == 2 and tensor.shape[1] > width:
            kind = CONTROL if tensor.shape[1] == 2 * width else "use a file for this model"
            return f"{key}: it has {tensor.shape[1]} inputs, and the model's layer {width}: {kind}"
    return None


def read_tensors(where: str, file: Path) -> dict[str, torch.Tensor]:
    """The tensors of an undamaged LoRA file.

    Raises:
        RunError: something in it would hang or mislead those that load it, or is no number.
    """
    from safetensors.torch import load_file

    flaw = find_hostile(file)
    tensors: dict[str, torch.Tensor] = {} if flaw else load_file(file)
    if flaw := flaw or find_no_number(tensors):
        raise RunError(f"{where}: not a file that can be loaded: {flaw}; use another one")
    return tensors


def find_no_number(tensors: dict[str, torch.Tensor]) -> str | None:
    """A tensor with NaN or infinity in it; None if there is none."""
    for key, tensor in tensors.items():
        if not tensor.float().isfinite().all():  # 8 bits have no `isfinite`
            return f"{key}: it holds values that are no finite numbers (NaN or infinity)"
    return None
