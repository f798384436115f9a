"""Takes off what a tool has put in front of diffusers' names of a denoiser's layers in a LoRA file.

PEFT writes `base_model.model.`, and some trainers ComfyUI's `diffusion_model.`, where diffusers looks for the
authors' names alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import RunError
from .adapter_layers import get_denoiser_name
from .adapter_parts import DOWN, LOHA, LOKR, TEXT_ENCODERS, split_part

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

WRAPPERS = r"base_model\.model\.|model\.diffusion_model\.|diffusion_model\.|module\.|_orig_mod\."
"""What PEFT, ComfyUI, and torch's parallel and compiled modules put in front of the names of whatever network it is.

Nothing else is taken off: what begins with `controlnet.` is for another network, whose layers may have the same names.
"""
DENOISERS = ("transformer", "transformer_2", "unet")
"""Components that `adapters.component` may name."""


class Renamed(NamedTuple):
    """The tensors of a file, and what stands in front of their names now and stood there before."""

    tensors: dict[str, torch.Tensor]
    now: str = ""
    before: str = ""

    def restore(self, message: str) -> str:
        """A message about tensors, with the names that the file has for them."""
        return re.sub(rf"(?<![\w.]){re.escape(self.now)}", self.before, message) if self.before else message


def unify_prefix(tensors: dict[str, torch.Tensor], pipe: DiffusionPipeline, denoiser: str) -> Renamed:
    """The tensors with diffusers' start of their names where most of their layers are the denoiser's but for another.

    denoiser: the component that the file is for.

    Raises:
        RunError: it has layers of another component, or two tensors would have one name.
    """
    layers = {name for name, _ in pipe.components[denoiser].named_modules() if name}
    named = [split[0] for key in tensors if (split := split_part(key, (*DOWN, *LOHA, *LOKR)))]
    own = dict.fromkeys(name for name in named if not name.startswith(("text_encoder", *TEXT_ENCODERS)))
    start = get_denoiser_name(pipe)
    _refuse_others(own, pipe, {start, denoiser})
    wrapper = re.compile(rf"(?:{WRAPPERS})*(?:{re.escape(start)}\.|{re.escape(denoiser)}\.)?")
    found = Counter(prefix for name in own if (prefix := _find_prefix(name, layers, wrapper)) is not None)
    prefix, count = found.most_common(1)[0] if found else ("", 0)
    # Few may have diffusers' names by chance, in a file with the authors' names.
    if prefix in ("", f"{start}.") or 2 * count <= len(own):
        return Renamed(tensors)
    renamed: dict[str, str] = {}
    for key in tensors:
        name = f"{start}.{key.removeprefix(prefix)}" if key.startswith(prefix) else key
        if name in renamed:
            raise RunError(f"{renamed[name]} and {key} are for the same layer; use a file that has each layer once")
        renamed[name] = key
    return Renamed({name: tensors[key] for name, key in renamed.items()}, f"{start}.", prefix)


def _refuse_others(layers: Iterable[str], pipe: DiffusionPipeline, allowed: set[str]) -> None:
    """Refuses layers that say that they are another component's: names in two networks may be the same."""
    for name in layers:
        plain = re.sub(rf"^(?:{WRAPPERS})+", "", name)
        first = plain.partition(".")[0]
        if first in pipe.components and first not in allowed:
            way = f"use adapters.component={first}" if first in DENOISERS else "use a file for the denoiser"
            raise RunError(
                f"{name}: a layer of {first}, and the file is loaded into {' or '.join(sorted(allowed))}; {way}"
            )


def _find_prefix(name: str, layers: set[str], wrapper: re.Pattern[str]) -> str | None:
    """What stands in front of a layer's name; None if it ends in none, or something else stands there."""
    parts = name.split(".")
    for index in range(len(parts)):
        prefix = "".join(f"{part}." for part in parts[:index])
        if ".".join(parts[index:]) in layers:
            return prefix if wrapper.fullmatch(prefix) else None
    return None
