"""Predictors that need no positions: plain reuse, and DiCache's extrapolation along the signal."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..interfaces import StepInfo
from ..means import mean
from .history import History, Residual, to_float32

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(kw_only=True)
class Reuse(PartConfig):
    """Options of `cache/predictor=reuse`: there are none."""

    name: str = "reuse"


@register("cache/predictor", "reuse", Reuse)
class ReusePredictor:
    """The residual of the last computed step, unchanged."""

    def __init__(self, options: Reuse) -> None:
        """Takes the options class above."""
        self.residual: Residual = {}

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual."""
        self.residual = residual

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The stored residual."""
        return dict(self.residual)


@dataclass(kw_only=True)
class Gamma(PartConfig):
    """Options of `cache/predictor=gamma`."""

    name: str = "gamma"
    limit: float = 1.5
    """How far beyond the second last residual it goes at most, in units of the distance to the last one."""

    def __post_init__(self) -> None:
        """Refuses a limit that is out of range."""
        if not 1 <= self.limit <= 100:
            raise ConfigError(f"cache.predictor.limit={self.limit}: allowed: 1 (plain reuse) to 100; 1.5 is DiCache's")


@register("cache/predictor", "gamma", Gamma)
class GammaPredictor:
    """Extrapolates the last two residuals as far as the first blocks' residual has moved: R2 + g (R1 - R2).

    g = |p - P2| / |P1 - P2|, clamped to 1 .. `limit`. 1 is the last computed step, 2 the second last; R are residuals
    of the skipped blocks, P those of the blocks that always run (DiCache's probe) and p the present one; |.| is the
    mean absolute value. Where no block always runs, P is the signal. g is one number per image and stays on the device.
    With one computed step, or if P has not moved from 2 to 1, the last residual is reused. Source: DiCache,
    https://arxiv.org/abs/2508.17356, and https://github.com/Bujiazi/DiCache, where R is the residual of all blocks and
    is added to the first block's input; here it is that of the others, added to what the first block gives.
    """

    follows_head: ClassVar[bool] = True

    def __init__(self, options: Gamma) -> None:
        """Takes the options class above."""
        self.limit = options.limit
        self.history = History(2)
        self.signals: deque[Tensor] = deque(maxlen=2)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores residual and signal."""
        self.history.add(at.step, residual)
        self.signals.append(_require_signal(signal))

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The residual, extrapolated along the signal."""
        residuals = self.history.residuals
        if len(residuals) < 2:
            return dict(residuals[-1])
        before, last = (to_float32(stored) for stored in self.signals)
        way = mean((to_float32(_require_signal(signal)) - before).abs()) / mean((last - before).abs())
        g = way.nan_to_num(nan=1.0, posinf=1.0).clamp(1.0, self.limit)
        older, newer = residuals
        return {name: _extrapolate(older[name], newer[name], g) for name in newer}


def _extrapolate(older: Tensor, newer: Tensor, g: Tensor) -> Tensor:
    start, end = to_float32(older), to_float32(newer)
    return start.lerp(end, g.to(start.dtype)).to(newer.dtype)


def _require_signal(signal: Tensor | None) -> Tensor:
    if signal is None:
        raise RunError(
            "cache.predictor=gamma: it follows the signal, and this strategy has none; "
            "use cache/signal=first_block_residual, or another cache/predictor"
        )
    return signal
