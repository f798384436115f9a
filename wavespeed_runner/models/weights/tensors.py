"""Loads the weights of one module from safetensors files, those that are stored in fp8 with scales converted back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...errors import ConfigError
from .empty_module import assign
from .hub import refuse_missing_weights
from .layouts import State
from .placement import place, refuse_misfit
from .random_init import list_float32_names
from .scales import WAY_OUT, Scales, check_mark

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Stored(NamedTuple):
    """Undamaged safetensors files, and how their weights are stored."""

    where: str
    """`key=value` of them, for messages."""
    files: Sequence[Path]
    scales: Scales
    source: str
    """`key=value` of the folder that says which shapes weights have."""


def load_tensors(
    stored: Stored,
    component: str,
    module: nn.Module,
    shapes: Mapping[str, list[int]],
    dtype: torch.dtype,
    prefixes: Collection[str] = (),
) -> nn.Module:
    """Fills a module, in whichever of its layouts the files are.

    Args:
        stored: the files.
        component: what the module is in the pipeline.
        module: as `build_empty` returns it.
        shapes: tensor -> shape, of those in the files that belong to the module.
        dtype: of all weights that the module's class does not keep in float32.
        prefixes: see `list_layouts`.

    Raises:
        RunError: a tensor has no place, is missing, or has another shape.
        ConfigError: a weight is stored in a way that is not read.
    """
    placement = place(module, shapes, prefixes)
    refuse_misfit(stored.where, component, module, placement, stored.source)
    get_dtype = find_dtypes(module, dtype)
    # All: some converters take tensors out that no weight is made of, and fail without them.
    dtypes = dict.fromkeys(shapes, dtype)
    dtypes |= {name: get_dtype(weight) for weight, names in placement.sources.items() for name in names}
    state = placement.convert(read_tensors(stored, dtypes))
    wanted = {name: state.pop(name) for name in placement.sources}
    refuse_missing_weights({component: assign(module, cast(module, wanted, dtype))}, stored.where)
    return module


def read_tensors(stored: Stored, dtypes: Mapping[str, torch.dtype]) -> State:
    """Name -> tensor, as stored, but a weight with a scale multiplied by it.

    dtypes: of the tensors that are read. A product is rounded to it once, from float32; the others stay as they are.

    Raises:
        ConfigError: a mark says that a weight is stored in another way, or a scale is none.
        SafetensorError: a file is damaged after all.
    """
    from safetensors import safe_open

    with ExitStack() as stack:
        holders: dict[str, Any] = {}
        for path in stored.files:
            opened = stack.enter_context(safe_open(path, framework="pt"))
            holders |= dict.fromkeys(opened.keys(), opened)

        def get(name: str) -> Tensor:
            tensor: Tensor = holders[name].get_tensor(name)
            return tensor

        for mark in stored.scales.marks:
            check_mark(stored.where, mark, bytes(get(mark).tolist()))
        state = {}
        for name, dtype in dtypes.items():
            state[name] = get(name)
            if scale := stored.scales.weights.get(name):
                if flaw := find_bad_scale(state[name], get(scale)):
                    raise ConfigError(f"{stored.where}: {scale}: {flaw}; {WAY_OUT}")
                state[name] = apply_scale(state[name], get(scale)).to(dtype)
        return state


def find_bad_scale(stored: Tensor, scale: Tensor) -> str | None:
    """What is wrong with the scale of a weight, or of one of its rows: all are finite and above 0; None if nothing is.

    Rows that are all 0 may have 0, as some programs write it.
    """
    numbers = scale.float().flatten()
    if bool(((numbers > 0) & numbers.isfinite()).all()):
        return None
    rows = stored.float().reshape(numbers.numel(), -1)
    bad = ~((numbers > 0) & numbers.isfinite()) & ~((numbers == 0) & (rows == 0).all(1))
    return f"{numbers[bad][0].item():g} is no scale; a finite number above 0 is needed" if bad.any() else None


def apply_scale(stored: Tensor, scale: Tensor) -> Tensor:
    """Converts a weight back to float32. scale: one number, or one for each row (first dimension) of the weight."""
    rows = [-1, *[1] * (stored.dim() - 1)] if scale.numel() > 1 else []
    return stored.float() * scale.float().reshape(rows)


def cast(module: nn.Module, state: State, dtype: torch.dtype) -> State:
    """The tensors in the number format that loading from a folder gives them.

    Args:
        module: their names are those of its parameters and buffers.
        state: emptied on the way, so that no tensor is held twice.
        dtype: of all that the module's class does not keep in float32.
    """
    found = {}
    get_dtype = find_dtypes(module, dtype)
    for name in list(state):
        tensor = state.pop(name)
        found[name] = tensor.to(get_dtype(name)).contiguous() if tensor.is_floating_point() else tensor
    return found


def find_dtypes(module: nn.Module, dtype: torch.dtype) -> Callable[[str], torch.dtype]:
    """Name of a parameter or buffer -> its number format once loaded."""
    import torch

    float32_names = list_float32_names(module, dtype)
    return lambda name: torch.float32 if float32_names.intersection(name.split(".")) else dtype
