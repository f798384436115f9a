"""What a quantized linear layer computes, in float64, written down without torchao."""

from __future__ import annotations

from torch import Tensor

LARGEST = {"int8": 127.5, "fp8": 448.0}
"""What the largest magnitude of a row is scaled to: int8 ends at -128 and 127; e4m3 at 448, arXiv 2209.05433."""


def round_rows(values: Tensor, number_format: str) -> Tensor:
    """Rounds each row: scaled so that its largest magnitude fits the format, rounded to it, and scaled back.

    The scale itself is a number of the values' own format.
    """
    exact = values.double()
    scale = (exact.abs().amax(dim=-1, keepdim=True) / LARGEST[number_format]).to(values.dtype).double()
    scaled = exact / scale
    return scale * (scaled.round().clamp(-128, 127) if number_format == "int8" else round_to_e4m3(scaled))


def round_to_e4m3(values: Tensor) -> Tensor:
    """The nearest numbers of 1 sign, 4 exponent and 3 mantissa bits, ties to even; subnormal below 2**-6."""
    exponent = values.abs().clamp(min=2.0**-6).log2().floor()
    step = 2.0 ** (exponent - 3)
    return ((values / step).round() * step).clamp(-448, 448)


def compute_layer(scheme: str, inputs: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The layer's output in float64."""
    weight = round_rows(weight, "fp8" if scheme.startswith("fp8") else "int8")
    inputs = round_rows(inputs, "int8") if scheme == "int8_dq" else inputs.double()
    return inputs @ weight.T + bias.double()


def measure_error(actual: Tensor, expected: Tensor) -> float:
    """Relative error in the L2 norm."""
    return float((actual.double() - expected).norm() / expected.norm())
