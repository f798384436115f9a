"""Takes off what a tool has put in front of diffusers' names of a denoiser's layers in a LoRA file.

PEFT writes `base_model.model.`, and some trainers ComfyUI's `diffusion_model.`, where diffusers looks for the
authors' names alone.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .adapter_parts import DOWN, LOHA, LOKR, TEXT_ENCODERS, split_part

if TYPE_CHECKING:
    import torch
    from torch import nn


class Renamed(NamedTuple):
    """The tensors of a file, and what stands in front of their names now and stood there before."""

    tensors: dict[str, torch.Tensor]
    now: str = ""
    before: str = ""

    def restore(self, message: str) -> str:
        """A message about tensors, with the names that the file has for them."""
        return re.sub(rf"(?<![\w.]){re.escape(self.now)}", self.before, message) if self.before else message


def unify_prefix(tensors: dict[str, torch.Tensor], denoiser: nn.Module, start: str) -> Renamed:
    """The tensors with diffusers' start of their names where most of their layers are the denoiser's but for another.

    start: `transformer` or `unet`, as diffusers' files begin.
    """
    layers = {name for name, _ in denoiser.named_modules() if name}
    named = [split[0] for key in tensors if (split := split_part(key, (*DOWN, *LOHA, *LOKR)))]
    own = dict.fromkeys(name for name in named if not name.startswith(("text_encoder", *TEXT_ENCODERS)))
    found = Counter(prefix for name in own if (prefix := _find_prefix(name, layers)) is not None)
    prefix, count = found.most_common(1)[0] if found else ("", 0)
    # Few may have diffusers' names by chance, in a file with the authors' names.
    if prefix in ("", f"{start}.") or 2 * count <= len(own):
        return Renamed(tensors)
    now = f"{start}."
    renamed = {f"{now}{key.removeprefix(prefix)}" if key.startswith(prefix) else key: key for key in tensors}
    return Renamed({name: tensors[key] for name, key in renamed.items()}, now, prefix)


def _find_prefix(name: str, layers: set[str]) -> str | None:
    """What stands in front of a layer's name; None if it ends in none."""
    parts = name.split(".")
    for index in range(len(parts)):
        if ".".join(parts[index:]) in layers:
            return "".join(f"{part}." for part in parts[:index])
    return None
