"""Pipelines of one process share their weights, or those components that quantization has left alike.

A run with `compile=regional` is compared with a reference that is not compiled: two pipelines, which patch their
modules differently. Loading the weights twice would need twice the memory, so the second pipeline gets modules of its
own around the same tensors. With `quant=int8_wo`, only the denoiser differs from the reference's.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

from ..models.weights.size import count_pipeline_bytes

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn


@dataclass(kw_only=True, eq=False)
class LoadedWeights:
    """A pipeline with everything that changes its weights; alive as long as a pipeline derived from it is."""

    pipe: DiffusionPipeline
    engaged: dict[str, Any] = field(default_factory=dict)
    """Evidence of what changed the weights, for the record's `engaged`."""
    dtype: torch.dtype
    key: str = ""
    """Identifies the weights; empty if they are not shared."""
    unquantized: str = ""
    """Identifies the weights as they were before quantization; empty if none of them can be shared."""
    quantized: Collection[str] = ()
    """Components that quantization may have changed."""

    def __post_init__(self) -> None:
        _alive.add(self)


_alive: WeakSet[LoadedWeights] = WeakSet()
_loaded: WeakValueDictionary[str, LoadedWeights] = WeakValueDictionary()


def count_other_bytes(weights: LoadedWeights, device: str) -> int:
    """Bytes on a device of all weights in this process but these: of a reference's model, for example."""
    return count_pipeline_bytes([other.pipe for other in _alive if other is not weights], device, weights.pipe)


def find_or_load(key: str, build: Callable[[], LoadedWeights]) -> LoadedWeights:
    """The weights of this key that are alive in this process, or else those that `build` loads."""
    weights = _loaded.get(key)
    if weights is None:
        weights = build()
        weights.key = key
        _loaded[key] = weights
    return weights


def share_components(unquantized: str) -> dict[str, nn.Module]:
    """Component -> a module of its own around the weights that some pipeline of this process has, not quantized.

    Args:
        unquantized: as in `LoadedWeights`.
    """
    import torch

    shared: dict[str, nn.Module] = {}
    for weights in [weights for weights in _alive if unquantized and weights.unquantized == unquantized]:
        for name, part in weights.pipe.components.items():
            if isinstance(part, torch.nn.Module) and name not in weights.quantized:
                shared.setdefault(name, part)
    return copy_modules(shared)


def copy_pipeline(pipe: DiffusionPipeline) -> DiffusionPipeline:
    """A pipeline with modules of its own around the same parameters and buffers; everything else is shared.

    What is set on the modules of one (hooks, processors, a compiled `forward`) is not set on those of the other.
    Their weights must not be moved or cast.
    """
    import torch

    modules = {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}
    twin = copy.copy(pipe)
    # Not by `setattr`, which diffusers has write into the configuration that both share.
    twin.__dict__.update(copy_modules(modules))
    return twin


def copy_modules(modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """Copies of modules around the same parameters and buffers, by name."""
    shared = {id(tensor): tensor for module in modules.values() for tensor in (*module.parameters(), *module.buffers())}
    return copy.deepcopy(modules, shared)
