"""Predictors: what stands in for the skipped blocks, as a weighted sum of the residuals of the last computed steps.

Here are the two that need no positions, and what all of them share: `History` and `combined`. Residuals are kept as
they are given, in their own dtype, and never written to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import isclose
from typing import TYPE_CHECKING

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..interfaces import StepInfo

if TYPE_CHECKING:
    from torch import Tensor

Residual = dict[str, "Tensor"]
"""{stream: what the skipped part of the blocks added}, each (rows, ...)."""


class History:
    """The residuals of the last computed steps, at most `length`, newest last, no two neighbours at one position.

    Samplers that call the denoiser twice a step call it twice at one noise level: there the newer one counts. A
    residual of another shape starts anew, because nothing older can be set against it.
    """

    def __init__(self, length: int) -> None:
        self._entries: deque[tuple[float, Residual]] = deque(maxlen=length)

    def add(self, position: float, residual: Residual) -> None:
        if self._entries:
            before, newest = self._entries[-1]
            if {name: r.shape for name, r in newest.items()} != {name: r.shape for name, r in residual.items()}:
                self._entries.clear()
            elif isclose(position, before, rel_tol=1e-6):
                self._entries.pop()
        self._entries.append((position, residual))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def positions(self) -> list[float]:
        return [position for position, _ in self._entries]

    @property
    def residuals(self) -> list[Residual]:
        return [residual for _, residual in self._entries]


def combine(residuals: Sequence[Residual], weights: Sequence[float]) -> Residual:
    """Sum of weight x residual for every stream, in the residuals' dtype.

    Added up in float32 where that is finer: weights of opposite signs take the difference of nearly equal residuals,
    of which bfloat16's 8 bits would leave little. Weights are the host's, so that nothing waits for the device.
    """
    if list(weights) == [0.0] * (len(weights) - 1) + [1.0]:
        return dict(residuals[-1])
    return {name: _weighted([r[name] for r in residuals], weights) for name in residuals[-1]}


def _weighted(tensors: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    newest = tensors[-1]
    total = to_float32(newest) * weights[-1]
    for tensor, weight in zip(tensors[:-1], weights[:-1], strict=True):
        total.add_(tensor, alpha=weight)
    return total.to(newest.dtype)


def to_float32(tensor: Tensor) -> Tensor:
    """In float32 where it is in less."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


@dataclass(kw_only=True)
class Reuse(PartConfig):
    name: str = "reuse"


@register("cache/predictor", "reuse", Reuse)
class ReusePredictor:
    """The residual of the last computed step, unchanged."""

    def __init__(self, options: Reuse) -> None:
        self.residual: Residual = {}

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        self.residual = residual

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        return dict(self.residual)


@dataclass(kw_only=True)
class Gamma(PartConfig):
    name: str = "gamma"
    limit: float = 1.5
    """At most so far beyond the last but one residual, the distance to the last being 1."""

    def __post_init__(self) -> None:
        if not 1 <= self.limit <= 100:
            raise ConfigError(f"cache.predictor.limit={self.limit}: allowed: 1 (plain reuse) to 100; 1.5 is DiCache's")


@register("cache/predictor", "gamma", Gamma)
class GammaPredictor:
    """R2 + g (R1 - R2), as far along the way from R2 to R1 as the signal has come: g = |p - P2| / |P1 - P2| between 1
    and `limit`.

    1 is the last computed step, 2 the last but one; R are residuals, P and p signals, then and now, and |.| is the mean
    absolute value. g is one number an image and stays on the device. With one computed step, and where the signal has
    not moved from 2 to 1, the last residual is used as it is.
    Source: DiCache, https://arxiv.org/abs/2508.17356.
    """

    def __init__(self, options: Gamma) -> None:
        self.limit = options.limit
        self.history = History(2)
        self.signals: deque[Tensor] = deque(maxlen=2)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        self.history.add(at.step, residual)
        self.signals.append(_needed(signal))

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        residuals = self.history.residuals
        if len(residuals) < 2:
            return dict(residuals[-1])
        before, last = map(to_float32, self.signals)
        way = (to_float32(_needed(signal)) - before).abs().mean() / (last - before).abs().mean()
        g = way.nan_to_num(nan=1.0, posinf=1.0).clamp(1.0, self.limit)
        older, newer = residuals
        return {name: _between(older[name], newer[name], g) for name in newer}


def _between(older: Tensor, newer: Tensor, g: Tensor) -> Tensor:
    start, end = to_float32(older), to_float32(newer)
    return start.lerp(end, g.to(start.dtype)).to(newer.dtype)


def _needed(signal: Tensor | None) -> Tensor:
    if signal is None:
        raise RunError(
            "cache.predictor=gamma: follows the signal, and this strategy has none; "
            "take cache/signal=first_block_residual, or another cache/predictor"
        )
    return signal
