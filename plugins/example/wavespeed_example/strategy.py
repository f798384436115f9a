"""A cache strategy of one's own: a signal, a criterion and a predictor, put together in conf/cache/patient.yaml.

Each can also be used alone: cache=fbcache cache/predictor=damped.
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
    name: str = "pooled_residual"
    blocks: int = 1
    """First blocks that always run."""


@register("cache/signal", "pooled_residual", PooledResidual)
class PooledResidualSignal:
    """The first blocks' residual, averaged over the tokens: what changes everywhere, not in one place. (n, channels)"""

    needs_latents = False

    def __init__(self, options: PooledResidual) -> None:
        pass

    def __call__(self, call: DenoiserCall) -> Any:
        return (call.after["hidden_states"] - call.before["hidden_states"]).mean(dim=1)


@dataclass(kw_only=True)
class GrowingThreshold(PartConfig):
    name: str = "growing_threshold"
    first: float = 0.02
    """Threshold at the first step; it grows evenly to `last`."""
    last: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.first <= self.last:
            raise ConfigError(
                f"cache.criterion.first={self.first} cache.criterion.last={self.last}: 0 <= first <= last is needed"
            )


@register("cache/criterion", "growing_threshold", GrowingThreshold)
class GrowingThresholdCriterion:
    """Reuse while the change since the last computed step is below a threshold that grows: early errors cost most."""

    watches = "computed"

    def __init__(self, options: GrowingThreshold) -> None:
        self.options = options
        self.level: float | None = None

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        (self.level,) = numbers
        grown = at.step / max(at.steps - 1, 1)
        return self.level < self.options.first + grown * (self.options.last - self.options.first)

    def record_computed(self, at: StepInfo) -> None:
        pass


@dataclass(kw_only=True)
class Damped(PartConfig):
    name: str = "damped"
    damping: float = 0.5
    """How far the straight line through the last two residuals is followed: 0 is plain reuse, 1 a Taylor forecast."""


@register("cache/predictor", "damped", Damped)
class DampedPredictor:
    """The last residual, and part of what it would have changed by had it gone on as before."""

    def __init__(self, options: Damped) -> None:
        self.damping = options.damping
        self.known: list[tuple[int, dict[str, Any]]] = []

    def record_computed(self, at: StepInfo, residual: dict[str, Any], signal: Any) -> None:
        self.known = [*self.known[-1:], (at.step, residual)]

    def predict(self, at: StepInfo, signal: Any) -> dict[str, Any]:
        step, last = self.known[-1]
        if len(self.known) == 1:
            return last
        before, older = self.known[0]
        ahead = self.damping * (at.step - step) / (step - before)
        return {name: last[name] + ahead * (last[name] - older[name]) for name in last}
