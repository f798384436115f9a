"""Predictors that extrapolate the computed residuals along a curve: Taylor, Hermite, and an ODE solver.

All three are linear in the computed residuals. So only weights are computed here, on the host; tensors are combined in
`combine`.
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
from .history import History, Residual, combine

if TYPE_CHECKING:
    from torch import Tensor


class Variable(Enum):
    """The variable in which distances between steps are measured."""

    step = "step"
    sigma = "sigma"
    """The noise level: schedules space it unevenly, and residuals follow it rather than the step count."""


def monomial(i: int, distance: float) -> float:
    """distance^i: the basis of Taylor's expansion."""
    return distance**i


def expansion_weights(positions: Sequence[float], now: float, basis: Callable[[int, float], float]) -> list[float]:
    """Weights of the residuals r_0 .. r_m in the sum of d_i basis(i, delta) / i! over i <= m.

    delta is the distance from the last computed position to `now`. d_0 = r_m, and d_i is the difference of d_(i-1) at
    the last two computed steps, divided by their distance, as TaylorSeer defines it. With even distances d_i is the
    i-th finite difference. d_1 comes from the last two steps, so order 2 with monomials is not the parabola through
    three points.

    Args:
        positions: where the residuals were computed, oldest first.
        now: where the sum is wanted.
        basis: (i, distance) -> the i-th basis function.
    """
    count = len(positions)
    # Of the current order, one row per computed step: the weights of the residuals in its derivative.
    derivatives = [[float(i == j) for j in range(count)] for i in range(count)]
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
    """Options of `cache/predictor=taylor`."""

    name: str = "taylor"
    order: int = 1
    """Highest derivative; order + 1 residuals are kept. Lower until enough steps have been computed."""
    variable: Variable = Variable.step

    def __post_init__(self) -> None:
        """Refuses other orders."""
        if self.order not in (1, 2):
            raise ConfigError(
                f"cache.predictor.order={self.order}: allowed: 1, 2; "
                "order 0 is cache/predictor=reuse, and higher ones amplify errors over a few steps"
            )


@register("cache/predictor", "taylor", Taylor)
class TaylorPredictor:
    """Taylor extrapolation, r + d_1 delta + d_2 delta^2 / 2, with derivatives from the computed steps.

    See `expansion_weights`. Source: TaylorSeer, https://arxiv.org/abs/2503.06923, applied to the residual of all
    skippable blocks together instead of each layer.
    """

    def __init__(self, options: Taylor) -> None:
        """Takes the options class above."""
        self.variable = options.variable
        self.history = History(options.order + 1)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual."""
        self.history.add(self._get_position(at), residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The residual, extrapolated to this step."""
        weights = expansion_weights(self.history.positions, self._get_position(at), monomial)
        return combine(self.history.residuals, weights)

    def _get_position(self, at: StepInfo) -> float:
        return at.sigma if self.variable is Variable.sigma else at.step


@dataclass(kw_only=True)
class Hermite(PartConfig):
    """Options of `cache/predictor=hermite`."""

    name: str = "hermite"
    order: int = 2
    scale: float = 0.5
    """HiCache's sigma: 0.5 is published for FLUX.1-dev, with order 2; lower keeps long skips closer to plain reuse."""

    def __post_init__(self) -> None:
        """Refuses values that are out of range."""
        if self.order not in (1, 2, 3, 4):
            raise ConfigError(f"cache.predictor.order={self.order}: allowed: 1 to 4; 2 is published for FLUX.1-dev")
        if not 0 < self.scale <= 1:
            raise ConfigError(f"cache.predictor.scale={self.scale}: allowed: above 0 to 1; 0.5 is published")


@register("cache/predictor", "hermite", Hermite)
class HermitePredictor:
    """Taylor's sum with sigma^i H_i(sigma delta) instead of delta^i; delta counts steps.

    H_i are the physicists' Hermite polynomials. With order 1 and sigma = sqrt(1/2) it equals Taylor extrapolation.
    Source: HiCache, https://arxiv.org/abs/2508.16984. The paper counts steps down to 0 and therefore writes H_i(-k)
    with differences of the opposite sign. Odd terms must continue the residual in the direction in which it moves, as
    they do here.
    """

    def __init__(self, options: Hermite) -> None:
        """Takes the options class above."""
        self.scale = options.scale
        self.history = History(options.order + 1)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual."""
        self.history.add(at.step, residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The residual, extrapolated to this step."""
        weights = expansion_weights(self.history.positions, at.step, self._scaled_hermite)
        return combine(self.history.residuals, weights)

    def _scaled_hermite(self, i: int, distance: float) -> float:
        return self.scale**i * hermite(i, self.scale * distance)


def hermite(i: int, x: float) -> float:
    """The physicists' Hermite polynomial H_i(x): 1, 2x, 4x^2 - 2, ..."""
    before, value = 0.0, 1.0
    for k in range(i):
        before, value = value, 2 * x * value - 2 * k * before
    return value


@dataclass(kw_only=True)
class Foca(PartConfig):
    """Options of `cache/predictor=foca`: there are none."""

    name: str = "foca"


@register("cache/predictor", "foca", Foca)
class FocaPredictor:
    """Treats the residual as the solution of an ODE and makes Heun steps: r_k + h/2 (computed slope + slope ahead).

    r_k is the value at the previous step, computed or predicted, and h the distance to it. The computed slope is the
    one between the last two computed residuals. The slope ahead is that of the BDF2 prediction
    4/3 r_k - 1/3 r_(k-1) + 2/3 h r'_k. Inserted into BDF2's formula for the derivative,
    (3 r_(k+1) - 4 r_k + r_(k-1)) / 2h, it is r'_k for any spacing, which is the slope between the last two values,
    predicted ones included. The model does not provide these slopes, so they are differences over distances. Plain
    reuse until two steps are computed. Source: FoCa, equations 6 to 8 of https://arxiv.org/abs/2508.16211.
    """

    def __init__(self, options: Foca) -> None:
        """Takes the options class above."""
        self.history = History(2)
        # Of the last two steps, computed or predicted: (step, residual).
        self.values: deque[tuple[float, Residual]] = deque(maxlen=2)

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual."""
        self.history.add(at.step, residual)
        if len(self.history) == 1:
            self.values.clear()
        self.values.append((at.step, residual))

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The residual after one Heun step; it is stored as the previous value of the next step."""
        residuals = self.history.residuals
        if len(residuals) < 2:
            return dict(residuals[-1])
        (before, after), ((older, r_older), (newer, r_newer)) = self.history.positions, self.values
        h = at.step - newer
        computed, local = h / 2 / (after - before), h / 2 / (newer - older)
        predicted = combine([*residuals, r_older, r_newer], [-computed, computed, -local, 1 + local])
        self.values.append((at.step, predicted))
        return predicted
