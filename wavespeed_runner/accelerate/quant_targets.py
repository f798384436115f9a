"""Chooses the linear layers that are quantized, by name and shape, and says why each of the others stays as it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from ..config.schema import QuantConfig
from ..errors import RunError
from ..models.family import Blocks, Family, UNetBlocks
from .quant_options import DENOISER, CustomQuant, LayerScheme, QuantOptions, find_misfit

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

MODULATION = re.compile(r"norm\w*|ada_?ln\w*|\w*modulation\w*|(\w+_)?mod", re.IGNORECASE)
"""Part of a layer's name: it computes scales and shifts from the timestep, one row an image instead of one a token."""
NUMBER = r"(?<=\.)\d+(?=\.|$)"
"""A part of a layer's name that is a number."""
LORA = "lora_"
"""Part of the names of a LoRA's own layers."""
OUTSIDE = "outside of the repeated blocks"
UNET_BLOCKS = r"(.*\.)?transformer_blocks\.\d+\..*"
"""Layers of a U-Net's transformers; what surrounds those are convolutions and the projections of the timestep."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What happens to one linear layer."""

    scheme: str | None
    """The scheme that its weight gets; None: it stays as it is."""
    reason: str = ""
    """Why it stays."""


def choose_layers(
    pipe: DiffusionPipeline, family: Family, quant: QuantConfig, device: str
) -> dict[str, dict[str, Choice]]:
    """Component -> name -> choice, for every linear layer of the components that the options name.

    Raises:
        RunError: no such component, or a pattern of the options decides about no layer.
    """
    chosen: dict[str, dict[str, Choice]] = {}
    if isinstance(quant, CustomQuant):
        chosen = _choose_by_entries(pipe, family, quant.layers)
    elif isinstance(quant, QuantOptions):
        names = [name for key in quant.components for name in _find_components(pipe, family, key)]
        layers = {name: layers_of(pipe, name) for name in names}
        repeated = {name: _find_repeated(name, getattr(pipe, name), family) for name in layers}
        _check_lists(quant, layers, repeated)
        chosen = {
            name: {layer: _choose_by_lists(layer, quant, repeated[name]) for layer in found}
            for name, found in layers.items()
        }
    linear = {name: layers_of(pipe, name) for name in chosen}
    return {
        name: {layer: _check_shape(choice, linear[name][layer], device) for layer, choice in choices.items()}
        for name, choices in chosen.items()
    }


def list_denoisers(family: Family) -> list[str]:
    """Components that a pipeline of the family may call in every step; generic ones have them by the usual names."""
    names = (family.denoiser, family.denoiser_2, "transformer", "transformer_2", "unet")
    return list(dict.fromkeys(name for name in names if name))


def layers_of(pipe: DiffusionPipeline, component: str) -> dict[str, nn.Linear]:
    """Name -> linear layer of a component."""
    return dict(list_layers(getattr(pipe, component)))


def list_layers(module: nn.Module) -> Iterator[tuple[str, nn.Linear]]:
    """(name, layer) of each linear layer; one that has a LoRA beside it has the name that it has without."""
    import torch

    for name, layer in module.named_modules():
        # A subclass is used by its parent in a way of its own: torch's attention reads its weight itself.
        if type(layer) is torch.nn.Linear:
            yield name.removesuffix(".base_layer"), layer


def compact_name(name: str) -> str:
    """A layer's name with `*` for numbers: layers that differ only in the block have the same."""
    return re.sub(NUMBER, "*", name)


def _find_components(pipe: DiffusionPipeline, family: Family, key: str) -> list[str]:
    """The pipeline's components that a key of the options stands for."""
    if key == DENOISER:
        found = [name for name in list_denoisers(family) if getattr(pipe, name, None) is not None]
        if found:
            return found
    with_layers = [name for name, part in pipe.components.items() if _has_layers(part)]
    if key not in with_layers:
        raise RunError(
            f"quant.components={key}: this pipeline has no such component with linear layers; allowed: "
            f"{', '.join([DENOISER, *with_layers])}"
        )
    return [key]


def _has_layers(part: Any) -> bool:
    import torch

    return isinstance(part, torch.nn.Module) and next(list_layers(part), None) is not None


def _find_repeated(component: str, module: nn.Module, family: Family) -> re.Pattern[str]:
    """Matches the names of the layers inside a component's repeated blocks.

    Raises:
        RunError: it is not known which of its blocks are repeated.
    """
    if component in (family.denoiser, family.denoiser_2):
        if isinstance(family.blocks, Blocks):
            lists = "|".join(re.escape(blocks.name) for blocks in family.blocks.lists)
            return re.compile(rf"({lists})\.\d+\..*")
        if isinstance(family.blocks, UNetBlocks):
            return re.compile(UNET_BLOCKS)
    classes = getattr(module, "_repeated_blocks", None)
    if classes:
        paths = [path for path, part in module.named_modules() if type(part).__name__ in classes]
        return re.compile(rf"({'|'.join(map(re.escape, paths))})\..*" if paths else r"(?!)")
    if not hasattr(module, "_repeated_blocks"):  # of transformers: its layers lie in numbered lists
        return re.compile(r".*\.\d+\..*")
    raise RunError(
        f"quant.components={component}: it is not known which blocks of a {type(module).__name__} are repeated; say "
        f"which layers are meant: quant=custom quant.layers=[{{component:{component},pattern:'.*',scheme:int8_dq}}]"
    )


def _choose_by_lists(layer: str, quant: QuantOptions, repeated: re.Pattern[str]) -> Choice:
    for pattern in quant.skip:
        if _matches(pattern, layer):
            return Choice(scheme=None, reason=f"quant.skip {pattern}")
    if any(_matches(pattern, layer) for pattern in quant.also):
        return Choice(scheme=quant.name)
    reason = _explain_default(layer, repeated)
    return Choice(scheme=None, reason=reason) if reason else Choice(scheme=quant.name)


def _explain_default(layer: str, repeated: re.Pattern[str]) -> str:
    """Why a layer is left unless `quant.also` names it; empty: it is not."""
    if LORA in layer:
        return "a LoRA's own"
    if not repeated.fullmatch(layer):
        return OUTSIDE
    return "modulation" if any(MODULATION.fullmatch(part) for part in layer.split(".")) else ""


def _choose_by_entries(
    pipe: DiffusionPipeline, family: Family, entries: list[LayerScheme]
) -> dict[str, dict[str, Choice]]:
    """The choices of `quant=custom`. A component may have entries by its own name and as `denoiser`: in their order.

    Raises:
        RunError: no such component, or an entry is the first to match for no layer.
    """
    components = {key: _find_components(pipe, family, key) for key in dict.fromkeys(e.component for e in entries)}
    linear = {name: layers_of(pipe, name) for names in components.values() for name in names}
    first = {
        name: {
            layer: next((e for e in entries if name in components[e.component] and _matches(e.pattern, layer)), None)
            for layer in layers
        }
        for name, layers in linear.items()
    }
    for key, names in components.items():
        used = {e.pattern for name in names for e in first[name].values() if e is not None and e.component == key}
        patterns = [e.pattern for e in entries if e.component == key]
        _refuse_unused("quant.layers", patterns, {name: linear[name] for name in names}, used)
    return {name: {layer: _apply_entry(e) for layer, e in by_layer.items()} for name, by_layer in first.items()}


def _apply_entry(entry: LayerScheme | None) -> Choice:
    if entry is None:
        return Choice(scheme=None, reason="no pattern matches")
    return Choice(scheme=entry.scheme, reason="" if entry.scheme else f"null for {entry.pattern}")


def _matches(pattern: str, layer: str) -> bool:
    """Whether a pattern matches a whole name. One that is not about LoRA leaves a LoRA's own layers alone."""
    return re.fullmatch(pattern, layer) is not None and (LORA in pattern or LORA not in layer)


def _check_shape(choice: Choice, layer: nn.Linear, device: str) -> Choice:
    if choice.scheme is None:
        return choice
    dtype = str(layer.weight.dtype).removeprefix("torch.")
    misfit = find_misfit(choice.scheme, layer.in_features, layer.out_features, dtype, device)
    return Choice(scheme=None, reason=misfit) if misfit else choice


def _check_lists(
    quant: QuantOptions, layers: dict[str, dict[str, nn.Linear]], repeated: dict[str, re.Pattern[str]]
) -> None:
    """Raises RunError if a pattern of `skip` or `also` changes nothing."""
    left = {(c, name) for c, found in layers.items() for name in found if _explain_default(name, repeated[c])}
    also = {(c, name) for c, name in left if any(_matches(pattern, name) for pattern in quant.also)}
    meant = {(c, name) for c, found in layers.items() for name in found} - left | also
    added = {name for _, name in left if not any(_matches(pattern, name) for pattern in quant.skip)}
    effective = {pattern for pattern in quant.also if any(_matches(pattern, name) for name in added)}
    _refuse_unused("quant.also", quant.also, layers, effective)
    effective = {pattern for pattern in quant.skip if any(_matches(pattern, name) for _, name in meant)}
    _refuse_unused("quant.skip", quant.skip, layers, effective)


def _refuse_unused(key: str, patterns: list[str], layers: dict[str, dict[str, nn.Linear]], effective: set[str]) -> None:
    """Raises RunError if a pattern takes no effect; the message names the layers that it may have meant."""
    names = [name for found in layers.values() for name in found]
    for pattern in patterns:
        if pattern in effective:
            continue
        if any(_matches(pattern, name) for name in names):
            raise RunError(
                f"{key}={pattern}: the layers that it matches are treated like this without it, or another pattern "
                "decides about them; leave it out"
            )
        plain = pattern.replace("\\", "").replace(".*", "")
        compact = sorted({compact_name(name) for name in names})
        near = get_close_matches(plain, compact, n=3, cutoff=0.3) or [n for n in compact if plain in n] or compact
        raise RunError(
            f"{key}={pattern}: it matches no linear layer as a whole name; the nearest: {', '.join(near[:3])} "
            "(`*` stands for a number; begin a pattern with `.*` to leave out what comes before)"
        )
