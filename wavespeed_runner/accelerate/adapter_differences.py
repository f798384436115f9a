"""Adds the differences of a LoRA file to the weights: of norms and biases, and whole weights.

They have no low rank, so PEFT has no layer for them: they are added once, times the adapter's weight, as ComfyUI does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .adapter_layers import (
    find_component,
    find_layer,
    get_plain_layer,
    index_layers,
    is_original,
    is_plain,
    list_modules,
)
from .adapter_parts import DIFFERENCES, split_part

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn

ADDED = "added_differences"
"""Attribute of a layer: how many differences were added to it."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One of a file."""

    key: str
    layer: str
    """Of the file: `key` without its last part."""
    parameter: str
    """`weight` or `bias`."""
    tensor: torch.Tensor


def add_differences(
    pipe: DiffusionPipeline, differences: dict[str, torch.Tensor], denoiser: str, weight: float
) -> None:
    """Adds differences, times a weight, to the parameters of a pipeline.

    Args:
        pipe: its components are changed in place.
        differences: by their names in the file.
        denoiser: the component that the file is for.
        weight: the adapter's.

    Raises:
        RunError: one has no place, names it.
    """
    modules = list_modules(pipe) if differences else {}
    indices = {component: index_layers(module) for component, module in modules.items()}
    for key, tensor in differences.items():
        split = split_part(key, DIFFERENCES)
        assert split is not None
        if not tensor.float().any():  # 8 bits have no `any`
            continue
        difference = Difference(key=key, layer=split[0], parameter=DIFFERENCES[split[1]], tensor=tensor)
        component, rest = find_component(pipe, split[0], denoiser)
        if component is None:
            raise RunError(f"{key}: this model has no such text encoder")
        placed = _place(pipe, modules[component], indices[component], rest, difference)
        for layer, part in placed.items():
            _add(get_plain_layer(modules[component], layer), difference, part, weight)


def count_differences(pipe: DiffusionPipeline) -> dict[str, int]:
    """Component -> how many differences were added to its parameters; only components with any."""
    modules = list_modules(pipe).items()
    counts = {name: sum(getattr(layer, ADDED, 0) for layer in module.modules()) for name, module in modules}
    return {name: count for name, count in counts.items() if count}


def _place(
    pipe: DiffusionPipeline, module: nn.Module, index: dict[str, str | None], rest: str, difference: Difference
) -> dict[str, torch.Tensor]:
    """Layer of the model -> its part of a difference, which may be split over several.

    A name of the original layout is converted first: Wan's `norm3` is diffusers' `norm2`, which has a `norm3` too.

    Raises:
        RunError: there is no such layer.
    """
    if is_original(difference.layer, module):
        if converted := _rename(module, rest, difference):
            return converted
        if difference.layer.startswith("lora_unet_"):
            return _split_as_lora(pipe, module, difference)
    found = find_layer(module, index, rest)
    return {found: difference.tensor} if found else _split_as_lora(pipe, module, difference)


def _rename(module: nn.Module, rest: str, difference: Difference) -> dict[str, torch.Tensor]:
    """The layer by diffusers' names for weights of the original layout; empty where they do not convert it alone."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    convert = SINGLE_FILE_LOADABLE_CLASSES.get(type(module).__name__, {}).get("checkpoint_mapping_fn")
    try:
        converted: Any = convert({f"{rest}.{difference.parameter}": difference.tensor}) if convert else {}
    except Exception:  # most need the whole checkpoint
        return {}
    layers = dict(module.named_modules())
    found = {name.removesuffix(f".{difference.parameter}"): part for name, part in converted.items()}
    return found if all(layer in layers for layer in found) else {}


def _split_as_lora(pipe: DiffusionPipeline, module: nn.Module, difference: Difference) -> dict[str, torch.Tensor]:
    """The layers by diffusers' conversion of LoRAs: it is given the difference as the second factor of one.

    That factor has the rows of the weight, and is split, ordered and renamed as they are.
    """
    import torch

    rows, shape = len(difference.tensor), difference.tensor.shape[1:]
    up = difference.tensor.reshape(rows, -1)
    layers = dict(module.named_modules())
    for down_name, up_name in (("lora_down", "lora_up"), ("lora_A", "lora_B")):
        down_key, up_key = (f"{difference.layer}.{name}.weight" for name in (down_name, up_name))
        try:
            given = {down_key: torch.ones(up.shape[1], 1), up_key: up}
            converted = type(pipe).lora_state_dict(given, return_lora_metadata=True)[0]
        except Exception:  # it does not know this layer, or not in this form
            continue
        found = {
            name.split(".lora_B.")[0].removeprefix("transformer."): part.reshape(len(part), *shape)
            for name, part in converted.items()
            if ".lora_B." in name and part.shape[1] == up.shape[1]
        }
        if all(name in layers for name in found) and sum(map(len, found.values())) == rows:
            return found
    raise RunError(f"{difference.key}: this model has no such layer")


def _add(layer: nn.Module, difference: Difference, part: torch.Tensor, weight: float) -> None:
    """Adds a part of a difference, times a weight, to the parameter of a layer."""
    key, name = difference.key, difference.parameter
    parameter = getattr(layer, name, None)
    if parameter is None:
        raise RunError(f"{key}: this layer of the model has no {name}")
    if not is_plain(parameter):
        raise RunError(f"{key}: the model's {name} is quantized, so nothing can be added to it; use other weights")
    if parameter.numel() != part.numel() or len(parameter) != len(part):
        raise RunError(f"{key}: its shape is {list(part.shape)}, and the model's {name} has {list(parameter.shape)}")
    total = parameter.data.double() + weight * part.reshape(parameter.shape).to(parameter.device).double()
    parameter.data.copy_(total)
    setattr(layer, ADDED, getattr(layer, ADDED, 0) + 1)
