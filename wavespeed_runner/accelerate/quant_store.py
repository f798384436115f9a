"""Keeps quantized weights in the store: the next process loads them instead of the weights that they were made from.

A component is built on the meta device from its own configuration, so the weights in full precision are neither read
nor in memory. Nothing is kept for models that adapters or fused projections have changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from ..config.schema import QuantConfig, to_data
from ..models.family import Family
from ..models.weights.kept_module import find_unkept, from_view, to_parts
from ..storage.store import Store
from .quant_options import DENOISER, CustomQuant, QuantOptions
from .quant_targets import list_denoisers

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import nn

STAGE = "quant"
"""What `python -m wavespeed_runner store` calls these entries."""
READ, WRITTEN = "read", "written"


@dataclass(kw_only=True)
class Shelf:
    """The entries of one quantized pipeline."""

    store: Store
    keys: dict[str, str]
    """Component -> key of its entry. Components that the pipeline does not have are never written."""
    reason: str
    """Why nothing is kept; empty if something is."""
    outcomes: dict[str, str] = field(default_factory=dict)
    """Component -> `read`, `written`, or why it is not kept: part of the evidence."""


def make_shelf(store: Store, family: Family, quant: QuantConfig, parts: dict[str, Any], reason: str) -> Shelf:
    """The entries for quantization options, of which nothing is read yet.

    Args:
        store: where they are.
        family: of the model.
        quant: the options.
        parts: JSON data that identifies the weights, and whatever else decides the bits.
        reason: why nothing is to be kept; empty if something is.
    """
    if not isinstance(quant, QuantOptions | CustomQuant):
        return Shelf(store=store, keys={}, reason="nothing is quantized")
    keys = {
        component: sha256(json.dumps({**parts, **_select_options(component, family, quant)}, sort_keys=True).encode())
        for component in _list_components(family, quant)
    }
    reason = reason or ("" if quant.keep else "quant.keep=false")
    return Shelf(store=store, keys={name: key.hexdigest() for name, key in keys.items()}, reason=reason)


def _select_options(component: str, family: Family, quant: QuantOptions | CustomQuant) -> dict[str, Any]:
    """What of the options decides one component's weights."""
    data = to_data(quant)
    data.pop("keep")
    data.pop("components", None)
    names = (component, DENOISER) if component in list_denoisers(family) else (component,)
    if isinstance(quant, CustomQuant):
        data["layers"] = [
            {"pattern": entry.pattern, "scheme": entry.scheme} for entry in quant.layers if entry.component in names
        ]
    return {"quant": data, "component": component}


def _list_components(family: Family, quant: QuantOptions | CustomQuant) -> list[str]:
    """Every component that may get quantized weights."""
    named = quant.components if isinstance(quant, QuantOptions) else [entry.component for entry in quant.layers]
    return list(dict.fromkeys(name for key in named for name in (list_denoisers(family) if key == DENOISER else [key])))


def take(shelf: Shelf) -> dict[str, nn.Module]:
    """Component -> its quantized module, for each that is kept."""
    if shelf.reason:
        return {}
    found = {component: shelf.store.read_mapped(key, from_view) for component, key in shelf.keys.items()}
    shelf.outcomes.update({component: READ for component, module in found.items() if module is not None})
    return {component: module for component, module in found.items() if module is not None}


def put(shelf: Shelf, pipe: DiffusionPipeline) -> None:
    """Writes the components that were quantized in this process.

    Raises:
        RunError: the store cannot be written.
    """
    for component, key in shelf.keys.items():
        module = getattr(pipe, component, None)
        if module is None or component in shelf.outcomes:
            continue
        reason = shelf.reason or find_unkept(module)
        if not reason:
            shelf.store.write(key, *to_parts(module), stage=STAGE)
        shelf.outcomes[component] = f"not kept: {reason}" if reason else WRITTEN
