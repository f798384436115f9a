"""Layers with the memory of a quantization scheme that has kernels for GPUs only, for an estimate on any machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .quant import quantize_layer
from .quant_options import SCHEMES

if TYPE_CHECKING:
    from torch import nn

INT4_GROUP = 128
"""Values of a row that share a scale and a zero point, each in the weights' own number format: torchao's
`Int4WeightOnlyConfig.group_size` (0.18)."""


def quantize_or_resize(layer: nn.Linear, scheme: str, where: str, device: str) -> None:
    """Quantizes a layer on shapes alone. What torchao can do only on a GPU becomes a layer of the same size.

    Arguments and errors are those of `quantize_layer`.
    """
    if SCHEMES[scheme].cpu:
        quantize_layer(layer, scheme, where, device)
        return
    import torch

    size = count_quantized_bytes(scheme, layer.out_features, layer.in_features, layer.weight.element_size())
    layer.weight = torch.nn.Parameter(layer.weight.new_empty(size, dtype=torch.uint8), requires_grad=False)
    quantizes_activations = SCHEMES[scheme].activations

    def forward(features: Any) -> Any:
        """Zeros of the output's shape, beside what a kernel reads: features in 8 bits, where they are quantized."""
        read = torch.empty_like(features, dtype=torch.uint8) if quantizes_activations else None
        out = features.new_empty(*features.shape[:-1], layer.out_features)
        del read
        return out

    layer.forward = forward  # type: ignore[assignment]


def count_quantized_bytes(scheme: str, outputs: int, inputs: int, element_size: int) -> int:
    """Bytes of a quantized weight with its scales.

    Args:
        scheme: one that runs on GPUs only.
        outputs: features, the rows of the weight.
        inputs: features.
        element_size: bytes of a value before quantization.
    """
    if scheme == "int4_wo":
        return outputs * inputs // 2 + 2 * element_size * outputs * inputs // INT4_GROUP
    scales = outputs if SCHEMES[scheme].granularity == "PerRow" else 1
    return outputs * inputs + 4 * scales
