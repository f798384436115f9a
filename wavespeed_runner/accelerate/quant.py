"""Quantization: linear layers of a loaded pipeline get weights, and for some schemes activations, in 8 or 4 bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..config.schema import QuantConfig
from ..models.family import Family

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def apply_quant(pipe: DiffusionPipeline, family: Family, quant: QuantConfig, device: str) -> DiffusionPipeline:
    """Quantizes the layers that the options name."""
    return pipe


def collect_evidence(pipe: DiffusionPipeline, quant: QuantConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.quant`, read from the pipeline's modules. None without quantization."""
    return None
