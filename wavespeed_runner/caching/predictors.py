"""Predictors: what stands in for the skipped blocks. State of one guidance branch of one generation.

computed(step, residual)    {stream: what the skipped part added at a computed step}
predict(step) -> residual   the same for a skipped step
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from ..config import PartConfig
from ..registry import register


class Predictor(Protocol):
    def computed(self, step: int, residual: dict[str, Any]) -> None: ...

    def predict(self, step: int) -> dict[str, Any]: ...


@dataclass(kw_only=True)
class Reuse(PartConfig):
    name: str = "reuse"


@register("cache/predictor", "reuse", Reuse)
class ReusePredictor:
    """The residual of the last computed step, unchanged."""

    def __init__(self, options: Reuse) -> None:
        self.residual: dict[str, Any] = {}

    def computed(self, step: int, residual: dict[str, Any]) -> None:
        self.residual = residual

    def predict(self, step: int) -> dict[str, Any]:
        return self.residual
