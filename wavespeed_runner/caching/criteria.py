"""Criteria: when to reuse. A criterion keeps its own state for one guidance branch of one generation.

value(signal) -> float or None   how much has changed; None when there is nothing to compare with
reuse(value) -> bool             may this step be skipped?
computed(signal)                 called after every computed step
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..config import PartConfig
from ..registry import register


class Criterion(Protocol):
    def value(self, signal: Any) -> float | None: ...

    def reuse(self, value: float) -> bool: ...

    def computed(self, signal: Any) -> None: ...


@dataclass(kw_only=True)
class RelativeChange(PartConfig):
    name: str = "relative_change"
    threshold: float = 0.08


@register("cache/criterion", "relative_change", RelativeChange)
class RelativeChangeCriterion:
    """mean|s - s_c| / mean|s_c| < threshold, s_c the signal at the last *computed* step.

    Because s_c stays over a run of skipped steps, drift is measured against the last real step. The arithmetic, its
    order and its precision are those of diffusers' `FBCHeadBlockHook`, so that decisions agree to the last bit.
    """

    def __init__(self, options: RelativeChange) -> None:
        self.threshold = options.threshold
        self.last: Any = None

    def value(self, signal: Any) -> float | None:
        if self.last is None or self.last.shape != signal.shape:
            return None
        # One number leaves the device a step: the only synchronisation of the strategy.
        return float(((signal - self.last).abs().mean() / self.last.abs().mean()).item())

    def reuse(self, value: float) -> bool:
        return value < self.threshold

    def computed(self, signal: Any) -> None:
        self.last = signal
