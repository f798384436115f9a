"""A custom cache strategy: a signal, a criterion and a predictor, combined in conf/cache/patient.yaml.

Each part can also be used alone: cache=fbcache cache/predictor=damped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from wavespeed_runner.caching.interfaces import DenoiserCall, StepInfo
from wavespeed_runner.config.schema import PartConfig
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.registry import register


@dataclass(kw_only=True)
class PooledResidual(PartConfig):
    """Options of the signal `pooled_residual`."""

    name: str = "pooled_residual"
    blocks: int = 1
    """Number of first blocks that always run."""


@register("cache/signal", "pooled_residual", PooledResidual)
class PooledResidualSignal:
    """The residual of the first blocks, averaged over the tokens to (n, channels): local changes count for less."""

    needs_latents = False

    def __init__(self, options: PooledResidual) -> None:
        pass

    def __call__(self, call: DenoiserCall) -> Any:
        return (call.after["hidden_states"] - call.before["hidden_states"]).mean(dim=1)


@dataclass(kw_only=True)
class GrowingThreshold(PartConfig):
    """Options of the criterion `growing_threshold`."""

    name: str = "growing_threshold"
    first: float = 0.02
    """Threshold at the first step; it grows linearly to `last`."""
    last: float = 0.1
    """Threshold at the last step."""

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ConfigError(
                f"cache.criterion.first={self.first} cache.criterion.last={self.last}: 0 <= first <= last is needed"
            )


@register("cache/criterion", "growing_threshold", GrowingThreshold)
class GrowingThresholdCriterion:
    """Reuses while the change since the last computed step is below a growing threshold, as early errors cost most."""

    watches = "computed"

    def __init__(self, options: GrowingThreshold) -> None:
        self.options = options
        self.level: float | None = None

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        (self.level,) = numbers
        progress = at.step / max(at.steps - 1, 1)
        return self.level < self.options.first + progress * (self.options.last - self.options.first)

    def record_computed(self, at: StepInfo) -> None:
        pass


@dataclass(kw_only=True)
class Damped(PartConfig):
    """Options of the predictor `damped`."""

    name: str = "damped"
    damping: float = 0.5
    """How far to extrapolate along the last two residuals: 0 is plain reuse, 1 a first-order Taylor prediction."""


@register("cache/predictor", "damped", Damped)
class DampedPredictor:
    """Predicts the last residual plus a part of its linear extrapolation."""

    def __init__(self, options: Damped) -> None:
        self.damping = options.damping
        self.history: list[tuple[int, dict[str, Any]]] = []

    def record_computed(self, at: StepInfo, residual: dict[str, Any], signal: Any) -> None:
        self.history = [*self.history[-1:], (at.step, residual)]

    def predict(self, at: StepInfo, signal: Any) -> dict[str, Any]:
        step, last = self.history[-1]
        if len(self.history) == 1:
            return last
        previous_step, previous = self.history[0]
        factor = self.damping * (at.step - step) / (step - previous_step)
        return {name: last[name] + factor * (last[name] - previous[name]) for name in last}
