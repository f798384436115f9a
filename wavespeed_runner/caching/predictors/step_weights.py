"""Predictor with a list of weights for each step: the skipped residual as a weighted sum of the last computed ones.

`cache/predictor=fitted` solves for weights that predict each step's residual best. These are what `fit` has found to be
best for what comes out in the end: an error early on costs more than one later, and errors may cancel each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..interfaces import StepInfo
from .history import History, Residual, combine

if TYPE_CHECKING:
    from torch import Tensor

MAX_HISTORY = 8
LARGEST = 1e3
"""Weights that work are below ten."""
Rows = Sequence[Sequence[float]]


@dataclass(kw_only=True)
class StepWeights(PartConfig):
    """Options of `cache/predictor=step_weights`."""

    name: str = "step_weights"
    weights: list[list[float]] | None = None
    """A row for each step of the run: for a skipped step the weights of the last computed residuals, oldest first; none
    for a computed step. Null: those that `fit` found for the schedule."""

    def __post_init__(self) -> None:
        """Refuses what are no weights."""
        if problem := find_problem(self.weights or ()):
            raise ConfigError(f"cache.predictor.weights: {problem}; copy them unchanged from a calibration")


def find_problem(rows: Rows) -> str:
    """Why these are no weights; empty if they are."""
    for step, row in enumerate(rows, 1):
        if len(row) > MAX_HISTORY or not all(abs(weight) <= LARGEST for weight in row):
            return f"step {step}: up to {MAX_HISTORY} numbers of -{LARGEST:g} to {LARGEST:g} are needed"
    return ""


def explain_misfit(rows: Rows, computed: Sequence[int]) -> str:
    """Why weights do not fit a run that computes these steps (counted from 1); empty if they do. For rules."""
    for step, row in enumerate(rows, 1):
        before = sum(other < step for other in computed)
        if step in computed and row:
            return f"there are weights for step {step}, which is computed"
        if step not in computed and not 1 <= len(row) <= before:
            return f"step {step} is skipped after {before} computed ones, and there are {len(row)} weights for it"
    return ""


@register("cache/predictor", "step_weights", StepWeights)
class StepWeightsPredictor:
    """Sum of w_k r_k over the last computed residuals, with the step's own weights."""

    def __init__(self, options: StepWeights) -> None:
        """Raises a ConfigError if the weights are still missing."""
        if not options.weights:
            raise ConfigError(
                "cache.predictor.weights=null: cache/predictor=step_weights needs the weights that python -m "
                "wavespeed_runner fit computed=N finds for this run; or use cache/predictor=taylor, which needs none"
            )
        self.weights = options.weights
        self.history = History(max(1, *map(len, options.weights)))

    def record_computed(self, at: StepInfo, residual: Residual, signal: Tensor | None) -> None:
        """Stores the residual."""
        if at.steps != len(self.weights):
            raise RunError(
                f"cache.predictor.weights: for {len(self.weights)} steps, but this generation has {at.steps}; fit "
                f"again with {at.steps} steps, or use cache/predictor=taylor, which works with any number"
            )
        self.history.add(at.step, residual)

    def predict(self, at: StepInfo, signal: Tensor | None) -> Residual:
        """The weighted sum for this step."""
        row = self.weights[at.step]
        if not 1 <= len(row) <= len(self.history):
            raise RunError(
                f"cache.predictor.weights: {len(row)} for step {at.step + 1}, and {len(self.history)} residuals are "
                "stored; the weights belong to another schedule"
            )
        return combine(self.history.residuals[-len(row) :], row)
