"""Predictors that continue the computed residuals along a curve: Taylor, Hermite, and the solver of an ODE.

All three are linear in the computed residuals, so only numbers are worked out here, on the host; tensors meet them
in `combined`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from math import factorial
from typing import TYPE_CHECKING

from ...config.schema import PartConfig
from ...errors import ConfigError
from ...registry import register
from ..interfaces import StepInfo
from .reuse import History, Residual, combine

if TYPE_CHECKING:
    from torch import Tensor


class Variable(Enum):
    """What distances are measured in."""

    step = "step"
    sigma = "sigma"
    """The noise level: schedules do not space it evenly, and residuals follow it rather than the count of steps."""


def monomial(i: int, distance: float) -> float:
    """Taylor's basis."""
    return distance**i


def expansion_weights(positions: Sequence[float], now: float, basis: Callable[[int, float], float]) -> list[float]:
    """Weights of the residuals r_0 .. r_m, computed at `positions`, in the sum over i <= m of d_i basis(i, delta) / i!.

    delta is how far `now` lies from the last of them, d_0 = r_m, and d_i = (d_(i-1) now - d_(i-1) at the computed step
    before) / the distance of the two steps, as TaylorSeer has it. Over even distances d_i is the i-th finite
    difference; d_1 is that of the last two steps, thus order 2 with powers is no parabola through three points.
    """
    count = len(positions)
    derivatives = [[float(i == j) for j in range(count)] for i in range(count)]
    """Of the current order, a row a computed step: how it weighs the residuals."""
    total = [0.0] * count
    for order in range(count):
        term = basis(order, now - positions[-1]) / factorial(order)
        total = [t + term * d for t, d in zip(total, derivatives[-1], strict=True)]
        gaps = [b - a for a, b in zip(positions[order:], positions[order + 1 :], strict=False)]
        derivatives = [
            [(b - a) / gap for a, b in zip(older, newer, strict=True)]
            for older, newer, gap in zip(derivatives, derivatives[1:], gaps, strict=False)
        ]
    return total


@dataclass(kw_only=True)
class Taylor(PartConfig):
    name: str = "taylor"
    order: int = 1
    """Highest derivative; it keeps order + 1 residuals. Less while fewer steps have been computed."""
    variable: Variable = Variable.step

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise ConfigError(
                f"cache.predictor.order={self.order}: allowed: 1, 2; "
                "order 0 is cache/predictor=reuse, and higher ones amplify errors over a few steps"
            )


@register("cache/predictor", "taylor", Taylor)
class TaylorPredictor:
    """r + d_1 delta + d_2 delta^2 / 2, the derivatives from the computed steps (see `expansion`).

    Source: TaylorSeer, https://arxiv.org/abs/2503.06923, for the residual of the whole stack instead of each layer.
    """

    def __init__(self, options: Taylor) -> None:
        self.variable = options.variable
        self.history = History(options.order + 1)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        self.history.add(self._position(at), residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        return combine(self.history.residuals, expansion_weights(self.history.positions, self._position(at), monomial))

    def _position(self, at: StepInfo) -> float:
        return at.sigma if self.variable is Variable.sigma else at.step


@dataclass(kw_only=True)
class Hermite(PartConfig):
    name: str = "hermite"
    order: int = 2
    scale: float = 0.5
    """sigma of HiCache: 0.5 is published for FLUX.1-dev, with order 2; less holds long skips closer to plain reuse."""

    def __post_init__(self) -> None:
        if self.order not in (1, 2, 3, 4):
            raise ConfigError(f"cache.predictor.order={self.order}: allowed: 1 to 4; 2 is published for FLUX.1-dev")
        if not 0 < self.scale <= 1:
            raise ConfigError(f"cache.predictor.scale={self.scale}: allowed: above 0 to 1; 0.5 is published")


@register("cache/predictor", "hermite", Hermite)
class HermitePredictor:
    """Taylor's sum with sigma^i H_i(sigma delta) in place of delta^i; H_i are the physicists' Hermite polynomials and
    delta counts steps.

    With order 1 and sigma = sqrt(1/2) it is Taylor's. Source: HiCache, https://arxiv.org/abs/2508.16984. The paper
    counts steps down to 0 and so writes H_i(-k) with differences of the opposite sign; odd terms have to carry the
    residual on in the direction in which it moves, and here they do.
    """

    def __init__(self, options: Hermite) -> None:
        self.scale = options.scale
        self.history = History(options.order + 1)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        self.history.add(at.step, residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        return combine(self.history.residuals, expansion_weights(self.history.positions, at.step, self._basis))

    def _basis(self, i: int, distance: float) -> float:
        return self.scale**i * hermite(i, self.scale * distance)


def hermite(i: int, x: float) -> float:
    """Physicists' H_i: 1, 2x, 4x^2 - 2, ..."""
    before, value = 0.0, 1.0
    for k in range(i):
        before, value = value, 2 * x * value - 2 * k * before
    return value


@dataclass(kw_only=True)
class Foca(PartConfig):
    name: str = "foca"


@register("cache/predictor", "foca", Foca)
class FocaPredictor:
    """Heun's step on the residual as the solution of an ODE: r_k + h/2 (slope at the last computed step + slope ahead).

    r_k is the value at the step before, computed or predicted, and h the distance to it. The slope at the last computed
    step is that between the last two computed residuals. The slope ahead is that of the BDF2 forecast
    4/3 r_k - 1/3 r_(k-1) + 2/3 h r'_k; put into BDF2's own formula for the derivative, (3 r_(k+1) - 4 r_k + r_(k-1)) /
    2h, it is r'_k for any spacing, which is the slope between the last two values, predicted ones included. Because the
    model leaves those slopes unknown, they are differences over their distances. Reuse until two steps are computed.
    Source: FoCa, equations 6 to 8 of https://arxiv.org/abs/2508.16211.
    """

    def __init__(self, options: Foca) -> None:
        self.history = History(2)
        self.values: deque[tuple[float, Residual]] = deque(maxlen=2)
        """Of the last two steps, computed or predicted."""

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        self.history.add(at.step, residual)
        if len(self.history) == 1:
            self.values.clear()
        self.values.append((at.step, residual))

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        residuals = self.history.residuals
        if len(residuals) < 2:
            return dict(residuals[-1])
        (before, after), ((older, r_older), (newer, r_newer)) = self.history.positions, self.values
        h = at.step - newer
        computed, local = h / 2 / (after - before), h / 2 / (newer - older)
        found = combine([*residuals, r_older, r_newer], [-computed, computed, -local, 1 + local])
        self.values.append((at.step, found))
        return found
