"""The weights of a cache's skipped steps as something that is fitted, and the schedule that their fit begins with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from ..caching.calibration.best_schedule import find_best_schedule
from ..caching.calibration.data import Calibration, FittedWeights
from ..caching.criteria.step_lists import Steps
from ..caching.predictors.fitted import RIDGE, fit_weights
from ..caching.predictors.step_weights import LARGEST, StepWeights
from ..caching.signals.block_signals import NoSignal
from ..caching.strategies import FittedCache
from ..errors import RunError, Unfit
from ..registry import find_implementation
from .fit_loop import Target
from .fit_numbers import Free, Rollout, robust_loss, scale_rate, to_plain
from .fit_references import FullRun
from .student import Generated, relative_errors

if TYPE_CHECKING:
    from torch import Tensor

HISTORY = 3
"""Computed residuals that a skipped step combines."""
Schedule = tuple[int, ...]
"""Computed steps, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A schedule, and the weights of its skipped steps in a row, float64."""

    schedule: Schedule
    steps: int
    values: Tensor

    def list_free(self) -> list[Free]:
        """All weights."""
        return [Free(values=self.values, rate=scale_rate(self.values))]

    def put(self, values: Sequence[Tensor]) -> Weights:
        """The same with other weights."""
        return replace(self, values=values[0])

    def correct(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Weights that `step_weights` takes."""
        return [tensor.clamp(-LARGEST, LARGEST) for tensor in values]

    def find_derivatives(self, made: Rollout) -> dict[int, Tensor]:
        """None is known: even the last step's layers behind the blocks are not linear."""
        return {}

    def list_rows(self) -> list[Tensor]:
        """A row of weights for each step; empty ones for computed steps."""
        lengths = [0 if step in self.schedule else len(history) for step, history in self._list_histories()]
        return list(self.values.split(lengths))

    def _list_histories(self) -> Iterator[tuple[int, Schedule]]:
        return list_histories(self.schedule, self.steps)


def list_histories(schedule: Schedule, steps: int) -> Iterator[tuple[int, Schedule]]:
    """Each step, and the last computed steps before it, newest last."""
    for step in range(steps):
        yield step, tuple(computed for computed in schedule if computed < step)[-HISTORY:]


def solve_start(calibration: Calibration, schedule: Schedule, order: int = 1) -> Weights:
    """The weights that predict each step's residual best, by least squares over the calibration's runs."""
    import torch

    gram = calibration.gram[0]
    values = [
        weight
        for step, history in list_histories(schedule, calibration.steps)
        if step not in schedule
        for weight in fit_weights(gram, history, step, RIDGE, min(order, len(history) - 1) or 1)
    ]
    return Weights(schedule=schedule, steps=calibration.steps, values=torch.tensor(values, dtype=torch.float64))


def build_cache_target(run: FullRun, calibration: Calibration, count: int) -> Target[Weights, FittedWeights]:
    """A cache with so many computed steps, from the best of the schedules that a calibration suggests.

    Raises:
        RunError: there is no such schedule.
    """
    student = run.student
    options = student.options

    def generate(weights: Weights, images: Sequence[int], **wanted: Any) -> Generated:
        full = find_implementation("sampler", options.sampler)(student.pipeline.pipe, options.sampler)
        return student.generate(full, options.steps, images, cache=build_cache(weights), **wanted)

    def find_loss(start: Weights) -> float:
        errors = relative_errors(generate(start, run.probed).result, run.reference[run.probed])
        loss = float(robust_loss(errors).mean())
        return loss if isfinite(loss) else inf

    def describe(weights: Weights, made: dict[str, Any]) -> FittedWeights:
        rows = [to_plain(row) for row in weights.list_rows()]
        return FittedWeights(steps=[step + 1 for step in weights.schedule], weights=rows, made=made)

    starts = [
        solve_start(calibration, schedule, order) for schedule in list_schedules(calibration, count) for order in (1, 2)
    ]
    if not starts:
        raise RunError(f"computed={count}: there is no schedule of so many among {calibration.steps} steps")
    best = min(starts, key=find_loss)
    steps = ",".join(str(step + 1) for step in best.schedule)
    return Target(
        title=f"{count} of {calibration.steps} computed",
        begins_at=f"steps {steps}, weights by least squares",
        start=best,
        generate=generate,
        describe=describe,
        computed=count,
    )


def list_schedules(calibration: Calibration, count: int) -> list[Schedule]:
    """Schedules worth trying: a search's, and the best ones with 1, 2, ... first steps computed, weighed or not.

    What is skipped early may turn an image into another one, which errors of residuals do not tell.
    """
    found = [tuple(step - 1 for step in calibration.schedules[count])] if count in calibration.schedules else []
    for importance in dict.fromkeys((calibration.schedule_weights, None)):
        for first in range(1, min(count, 4)):
            with suppress(Unfit):
                best = find_best_schedule(calibration.gram[0], count, first=first, importance=importance)
                found.append(tuple(best))
    return list(dict.fromkeys(found))


def build_cache(weights: Weights) -> FittedCache:
    """`cache=fitted` with these weights, which may require gradients."""
    rows: Any = weights.list_rows()
    predictor = StepWeights(weights=rows if weights.values.requires_grad else [row.tolist() for row in rows])
    steps = [step + 1 for step in weights.schedule]
    return FittedCache(
        computed=len(steps), signal=NoSignal(), criterion=Steps(computed=steps, of=weights.steps), predictor=predictor
    )
