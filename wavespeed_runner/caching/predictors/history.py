"""What all predictors share: the residuals of the last computed steps, and weighted sums of them.

Residuals are kept as they are given, in their own dtype, and never written to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import isclose
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

Residual = dict[str, "Tensor"]
"""{token stream: what the skippable blocks added to it}, each (rows, ...)."""


class History:
    """The residuals of the last computed steps, at most `length`, newest last, at distinct positions.

    Samplers that call the denoiser twice a step call it twice at one noise level; there the newer residual counts. A
    residual of another shape starts the history anew, because it cannot be combined with older ones.
    """

    def __init__(self, length: int) -> None:
        """Starts empty."""
        self._entries: deque[tuple[float, Residual]] = deque(maxlen=length)

    def add(self, position: float, residual: Residual) -> None:
        """Adds a residual. position: step, or noise level, at which it was computed."""
        if self._entries:
            last_position, newest = self._entries[-1]
            if {name: r.shape for name, r in newest.items()} != {name: r.shape for name, r in residual.items()}:
                self._entries.clear()
            elif isclose(position, last_position, rel_tol=1e-6):
                self._entries.pop()
        self._entries.append((position, residual))

    def __len__(self) -> int:
        """How many residuals are kept."""
        return len(self._entries)

    @property
    def positions(self) -> list[float]:
        """Where the residuals were computed, oldest first."""
        return [position for position, _ in self._entries]

    @property
    def residuals(self) -> list[Residual]:
        """The residuals, oldest first."""
        return [residual for _, residual in self._entries]


def combine(residuals: Sequence[Residual], weights: Sequence[float]) -> Residual:
    """Weighted sum of residuals for every token stream, in the residuals' dtype.

    It is summed in float32 if that is more precise: weights of opposite signs take the difference of nearly equal
    residuals, of which bfloat16's 8 bits would leave little. Weights are host numbers, so nothing waits for the device.
    """
    if list(weights) == [0.0] * (len(weights) - 1) + [1.0] and isinstance(weights[-1], float):
        return dict(residuals[-1])
    return {name: _sum_weighted([r[name] for r in residuals], weights) for name in residuals[-1]}


def _sum_weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    newest = tensors[-1]
    total = to_float32(newest) * weights[-1]
    for tensor, weight in zip(tensors[:-1], weights[:-1], strict=True):
        # A weight that is being fitted is a tensor in a graph of gradients, where nothing is written to.
        total = total.add_(tensor, alpha=weight) if isinstance(weight, float) else total + weight * to_float32(tensor)
    return total.to(newest.dtype)


def to_float32(tensor: Tensor) -> Tensor:
    """The tensor in float32, or in its own dtype if that is more precise."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
