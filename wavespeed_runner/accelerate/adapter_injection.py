"""Puts into PEFT's layers what diffusers does not read of a LoRA file: text encoders' parts, DoRA, LoHa and LoKr.

Formulas: LoRA and DoRA as in PEFT, https://arxiv.org/abs/2106.09685 and https://arxiv.org/abs/2402.09353; LoHa and LoKr
as in LyCORIS, https://arxiv.org/abs/2309.14859.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from . import adapter_lycoris
from .adapter_layers import find_component, find_layer, get_plain_layer, index_layers, is_plain, list_modules
from .adapter_parts import ALPHA, DORA, DOWN, LOHA, LOKR, TEXT_ENCODERS, UP, split_part

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

CAUSES = {
    "lora": "this model has no such layer",
    "dora": "DoRA is only applied to layers that a file names as this model does, and it has none of this name",
    "loha": "LoHa is only applied to layers that a file names as this model does, and it has none of this name",
    "lokr": "LoKr is only applied to layers that a file names as this model does, and it has none of this name",
}
"""Kind -> why an update has no place."""
WITHOUT_EFFECT = (
    *(
        "peft_type",
        "task_type",
        "inference_mode",
        "auto_mapping",
        "base_model_name_or_path",
        "revision",
        "peft_version",
    ),
    *(
        "init_lora_weights",
        "init_weights",
        "r",
        "rank_pattern",
        "target_modules",
        "layers_to_transform",
        "layers_pattern",
    ),
    *("exclude_modules", "megatron_core", "use_effective_conv2d", "decompose_both", "decompose_factor"),
    *("runtime_config", "qalora_group_size", "loftq_config"),
)
"""PEFT's settings that say nothing which the names and shapes of the tensors do not say."""
RANKS = ("down", "hada_w1_b", "lokr_w2_b")
"""Factors whose first size is the rank."""


@dataclass(kw_only=True)
class Update:
    """The update of one layer."""

    kind: str
    layer: str
    """Its name in the file."""
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    """Part -> tensor: `down`, `up`, `magnitude` and `alpha`, or LyCORIS' names, of which one form is whole."""


def take_updates(
    tensors: dict[str, torch.Tensor], loadable: Collection[str], settings: Mapping[str, Any]
) -> list[Update]:
    """Removes from a file's tensors, and returns, the updates that diffusers drops, or reads wrongly.

    Args:
        tensors: by their names.
        loadable: the components whose LoRA diffusers loads.
        settings: PEFT's settings in the file, which only diffusers follows.

    Raises:
        RunError: there are settings for an update that diffusers does not load.
    """
    layers: dict[str, dict[str, str]] = {}
    for key in tensors:
        if named := split_part(key, (*DOWN, *UP, ALPHA, DORA, *LOHA, *LOKR)):
            layers.setdefault(named[0], {})[_rename_part(named[1])] = key
    updates = []
    for layer, keys in layers.items():
        if kind := _find_kind(layer, keys, loadable):
            update = Update(kind=kind, layer=layer, parts={part: tensors.pop(key) for part, key in keys.items()})
            if setting := next((each for each, value in settings.items() if _changes(update, each, value)), ""):
                raise RunError(f"{layer}: the file's setting {setting} is not followed for {kind} here; use another")
            updates.append(update)
    return updates


def _changes(update: Update, setting: str, value: Any) -> bool:
    """Whether a setting of PEFT's makes something else of an update than its factors and its alpha do."""
    component, _, name = setting.partition(".")
    if component != update.layer.partition(".")[0] or name in WITHOUT_EFFECT:
        return False
    if name in ("lora_alpha", "alpha"):
        rank = next((len(tensor) for part, tensor in update.parts.items() if part in RANKS), None)
        return bool(value != rank)
    return value not in (None, False, 0, "none", {}, []) and (name, update.kind) != ("use_dora", "dora")


def _rename_part(part: str) -> str:
    names = dict.fromkeys(DOWN, "down") | dict.fromkeys(UP, "up") | {DORA: "magnitude"}
    return names.get(part, part.removeprefix("."))


def _find_kind(layer: str, parts: dict[str, str], loadable: Collection[str]) -> str | None:
    """The kind of an update that diffusers does not load; None for others, and for what has not all its factors."""
    if any(part.startswith("hada_") for part in parts):
        return "loha"
    if any(part.startswith("lokr_") for part in parts):
        return "lokr"
    if not {"down", "up"} <= parts.keys():
        return None
    if "magnitude" in parts:
        return "dora"
    first = layer.partition(".")[0]
    is_dropped = first.startswith("text_encoder") and first not in loadable  # T5, by diffusers' names
    return "lora" if is_dropped or layer.startswith(tuple(TEXT_ENCODERS)) else None


def inject(pipe: DiffusionPipeline, updates: list[Update], name: str, denoiser: str) -> list[str]:
    """Puts updates into layers of PEFT. Returns the names of the adapters, one for each kind.

    Args:
        pipe: its components are changed in place.
        updates: of one file.
        name: the adapter's; names of kinds are appended to it.
        denoiser: the component that the file is for.

    Raises:
        RunError: an update has no place, names it.
    """
    placed: dict[tuple[str, str], dict[str, Update]] = {}
    modules = list_modules(pipe) if updates else {}
    indices = {component: index_layers(module) for component, module in modules.items()}
    for update in updates:
        component, rest = find_component(pipe, update.layer, denoiser)
        layer = find_layer(modules[component], indices[component], rest) if component else None
        if component and layer:
            layers = placed.setdefault((component, update.kind), {})
            if layer in layers:
                raise RunError(
                    f"{update.layer}: the file changes this layer by another name too, {layers[layer].layer}"
                )
            layers[layer] = update
        elif not _is_zero(update):
            cause = CAUSES[update.kind] if component else "this model has no such text encoder"
            raise RunError(f"{update.layer}: {cause}")
    for (component, kind), layers in placed.items():
        _inject(list_modules(pipe)[component], f"{name}_{kind}", kind, layers)
    return sorted({f"{name}_{kind}" for _, kind in placed})


def _is_zero(update: Update) -> bool:
    """True for an update that changes nothing: a trainer writes all layers of a text encoder that it did not train."""
    return update.kind == "lora" and not update.parts["up"].float().any()


def _inject(module: nn.Module, name: str, kind: str, updates: dict[str, Update]) -> None:
    from peft import LoHaConfig, LoKrConfig, LoraConfig, inject_adapter_in_model

    for layer, update in updates.items():
        weight = getattr(get_plain_layer(module, layer), "weight", None)
        if not is_plain(weight) or weight.ndim < 2:
            raise RunError(f"{update.layer}: the model's layer is quantized, or no linear layer or convolution")
        _check_shape(update, weight)
    targets = "|".join(re.escape(layer) for layer in updates)
    config: Any
    if kind in ("lora", "dora"):
        rank, patterns = _write_ranks({layer: len(update.parts["down"]) for layer, update in updates.items()})
        config = LoraConfig(target_modules=targets, use_dora=kind == "dora", r=rank, rank_pattern=patterns)
    else:
        config = (LoHaConfig if kind == "loha" else LoKrConfig)(target_modules=targets, r=1, alpha=1)
    try:
        inject_adapter_in_model(config, module, adapter_name=name)
    except (TypeError, ValueError) as error:
        raise RunError(f"{next(iter(updates.values())).layer}: PEFT does not apply {kind}: {error}") from error
    for layer, update in updates.items():
        if kind in ("lora", "dora"):
            _fill_lora(module.get_submodule(layer), name, update)
        else:
            adapter_lycoris.fill(module.get_submodule(layer), name, update.parts, update.layer)


def _write_ranks(ranks: dict[str, int]) -> tuple[int, dict[str, int]]:
    """The most common rank, and a regular expression for the layers of each other one.

    One for each layer would be matched with every layer, and Python keeps 512 compiled ones.
    """
    common = Counter(ranks.values()).most_common(1)[0][0]
    groups: dict[int, list[str]] = {}
    for layer, rank in ranks.items():
        groups.setdefault(rank, []).append(f"^{re.escape(layer)}")
    return common, {"|".join(layers): rank for rank, layers in groups.items() if rank != common}


def _check_shape(update: Update, weight: torch.Tensor) -> None:
    """Raises RunError if an update is not for a weight of this shape, before PEFT makes layers as large as it says."""
    parts = update.parts
    if update.kind not in ("lora", "dora"):
        if misfit := adapter_lycoris.find_misfit(parts, list(weight.shape)):
            raise RunError(f"{update.layer}: {misfit}")
        return
    down, up, magnitude = parts["down"], parts["up"], parts.get("magnitude")
    shape = len(up), down.numel() // max(len(down), 1)
    fits = up.numel() == len(up) * len(down) and (magnitude is None or magnitude.numel() == len(up))
    if not fits or shape[0] != len(weight) or shape[0] * shape[1] != weight.numel():
        raise RunError(f"{update.layer}: it changes a weight of {shape}, and the model's has {list(weight.shape)}")


def _fill_lora(layer: Any, name: str, update: Update) -> None:
    """Sets the factors of a LoRA, the magnitude of a DoRA, and the scale of both, alpha / rank."""
    parts, base = update.parts, layer.get_base_layer().weight
    targets = {"down": layer.lora_A[name].weight, "up": layer.lora_B[name].weight}
    if "magnitude" in parts:
        targets["magnitude"] = layer.lora_magnitude_vector[name].weight
    for part, parameter in targets.items():
        parameter.data = parts[part].reshape(parameter.shape).to(base.device, base.dtype)
    layer.lora_alpha[name] = _read_alpha(parts, len(parts["down"]))
    layer.set_scale(name, 1.0)


def _read_alpha(parts: dict[str, torch.Tensor], rank: int) -> float:
    return float(parts["alpha"]) if "alpha" in parts else float(rank)
