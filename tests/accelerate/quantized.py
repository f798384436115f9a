"""Tiny pipelines, quantized."""

from __future__ import annotations

import copy
from typing import Any

from tests.models.tiny_families import tiny
from wavespeed_runner.accelerate import quant
from wavespeed_runner.accelerate.quant_targets import layers_of


def quantize(name: str, options: Any, device: str = "cpu") -> tuple[Any, dict[str, Any]]:
    """A copy of a tiny pipeline, quantized, and the evidence by component."""
    family, _, pipe = tiny(name)
    pipe = copy.deepcopy(pipe)
    quant.apply_quant(pipe, family, options, device)
    evidence = quant.collect_evidence(pipe, family, options, device, {})
    assert evidence is not None and evidence["scheme"] == options.name
    return pipe, evidence["components"]


def swapped(pipe: Any, component: str = "transformer") -> set[str]:
    return {name for name, layer in layers_of(pipe, component).items() if quant.is_quantized(layer.weight)}
