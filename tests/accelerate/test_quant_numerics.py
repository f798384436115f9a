"""Quantized layers on the CPU against the same rounding in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.accelerate.quant_references import compute_layer, measure_error, round_rows, round_to_e4m3
from wavespeed_runner.accelerate.quant import build_config

ON_CPU = ("int8_dq", "int8_wo", "fp8_wo")
BOUNDS = {torch.float32: 1e-6, torch.bfloat16: 4e-3}
"""Of the relative error: that of a matrix product in this format, which rounds its result to 24 or 8 bits."""


def draw(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    """Rows whose sizes span three powers of ten. The largest number of each is positive.

    A largest negative number would lie in the middle between -128 and -127, where the last bit of a division decides.
    """
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    values *= torch.logspace(-2, 1, shape[-2])[:, None]
    largest = values.gather(-1, values.abs().argmax(-1, keepdim=True))
    return (values * largest.sign()).to(dtype)


@pytest.fixture(params=list(BOUNDS), ids=str)
def layer(request: pytest.FixtureRequest) -> nn.Linear:
    layer = nn.Linear(96, 80, dtype=request.param).requires_grad_(False)
    layer.weight.copy_(draw(80, 96, dtype=request.param, seed=0))
    layer.bias.copy_(draw(1, 80, dtype=request.param, seed=1)[0])
    return layer


def quantize(layer: nn.Linear, scheme: str) -> nn.Linear:
    from torchao.quantization import quantize_

    quantize_(layer, build_config(scheme), filter_fn=lambda *_: True)
    return layer


@pytest.mark.parametrize("scheme", ON_CPU)
def test_a_layer_computes_what_the_reference_computes(layer: nn.Linear, scheme: str) -> None:
    weight, bias = layer.weight.clone(), layer.bias.clone()
    inputs = draw(3, 40, 96, dtype=weight.dtype, seed=2)
    expected = compute_layer(scheme, inputs, weight, bias)
    exact = inputs.double() @ weight.double().T + bias.double()
    output = quantize(layer, scheme)(inputs)
    assert output.dtype == weight.dtype and output.shape == (3, 40, 80)
    assert measure_error(output, expected) < BOUNDS[weight.dtype]
    # Without quantization, or with the other scheme, it would not be within the bound.
    assert measure_error(expected, exact) > BOUNDS[torch.bfloat16]


@pytest.mark.parametrize("scheme", ON_CPU)
def test_weights_are_rounded_row_by_row(layer: nn.Linear, scheme: str) -> None:
    expected = round_rows(layer.weight.clone(), "fp8" if scheme == "fp8_wo" else "int8")
    weight: Any = quantize(layer, scheme).weight
    assert measure_error(weight.dequantize(torch.float32), expected) < 1e-7


def test_the_reference_rounds_as_torch_does() -> None:
    values = torch.cat([torch.randn(2000, generator=torch.Generator().manual_seed(0)) * s for s in (1e-3, 0.1, 1, 100)])
    values = values.clamp(-448, 448)
    assert torch.equal(round_to_e4m3(values.double()).float(), values.to(torch.float8_e4m3fn).float())
