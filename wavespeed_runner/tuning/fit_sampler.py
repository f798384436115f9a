"""A sampler's numbers as something that is fitted, and where their fit begins: the best of the plain solvers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..caching.calibration.data import FittedSolver
from ..config.solver import LARGEST, Solver
from ..samplers.build import find_model_kind
from ..samplers.fitted import create_scheduler, to_tensors
from .fit_loop import Target
from .fit_numbers import Free, Rollout, scale_rate, to_plain
from .fit_references import FullRun
from .fit_starts import Start, find_starts
from .student import Generated

if TYPE_CHECKING:
    from torch import Tensor

TRAINING_STEPS = 1000
"""Timesteps are divided by it, so that all free numbers are of the same order."""
TIME_RATE = 1e-3
"""How far Adam moves them in its first steps, in that unit."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """A solver as tensors, float64: timesteps (K,), noise weights (K,) and output weights (K, K)."""

    times: Tensor
    noise: Tensor
    weights: Tensor
    noise_scale: float = 1.0

    @property
    def count(self) -> int:
        """Evaluations."""
        return len(self.times)

    def list_free(self) -> list[Free]:
        """Timesteps, noise weights, and the triangle of output weights row by row."""
        rows = self.weights[_triangle(self.count)]
        return [
            Free(values=self.times / TRAINING_STEPS, rate=TIME_RATE),
            Free(values=self.noise, rate=scale_rate(self.noise)),
            Free(values=rows, rate=scale_rate(rows)),
        ]

    def put(self, values: Sequence[Tensor]) -> Numbers:
        """The same with other free numbers; differentiable."""
        times, noise, rows = values
        weights = rows.new_zeros(self.count, self.count).index_put(_triangle(self.count), rows)
        return replace(self, times=times * TRAINING_STEPS, noise=noise, weights=weights)

    def correct(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Timesteps that stay in order and in range, and weights that a solver may have."""
        times, noise, rows = values
        noise = noise.sign() * noise.abs().clamp(10 / LARGEST, LARGEST)
        return [keep_descending(times), noise, rows.clamp(-LARGEST, LARGEST)]

    def find_derivatives(self, made: Rollout) -> dict[int, Tensor]:
        """The result is linear in the last row of weights."""
        last = 2 * self.count + self.count * (self.count - 1) // 2
        return {2 * self.count - 1: made.noise, **dict(enumerate(made.outputs, last))}


def from_solver(solver: Solver) -> Numbers:
    """A solver's numbers as tensors."""
    times, noise, weights = to_tensors(solver)
    return Numbers(times=times, noise=noise, weights=weights, noise_scale=solver.noise_scale)


def to_solver(numbers: Numbers) -> Solver:
    """The numbers as a calibration keeps them."""
    return Solver(
        timesteps=to_plain(numbers.times),
        noise_weights=to_plain(numbers.noise),
        output_weights=[to_plain(row[: n + 1]) for n, row in enumerate(numbers.weights)],
        noise_scale=numbers.noise_scale,
    )


def keep_descending(times: Tensor) -> Tensor:
    """Timesteps, divided by `TRAINING_STEPS`, that stay in order and in range."""
    kept = times.clone()
    for n in range(len(kept)):
        highest = kept[n - 1] - 1e-3 if n else kept.new_tensor(1.0)
        lowest = 1e-3 * (len(kept) - 1 - n)
        kept[n] = kept[n].clamp(min=lowest).minimum(highest)
    return kept


def _triangle(count: int) -> tuple[Tensor, ...]:
    """Indices of a lower triangle, row by row."""
    import torch

    return tuple(torch.tril_indices(count, count))


def build_sampler_target(run: FullRun, count: int, start: Start | None = None) -> Target[Numbers, FittedSolver]:
    """A sampler of so many evaluations, from the best of the plain ones, or from a given one."""
    student = run.student
    kind = find_model_kind(student.pipeline.pipe.scheduler)
    best = start or find_starts(student, run.reference, count, run.probed)[0]

    def generate(numbers: Numbers, images: Sequence[int], **options: Any) -> Generated:
        scheduler = create_scheduler(student.pipeline.pipe, kind)
        scheduler.use_tensors(numbers.times, numbers.noise, numbers.weights, numbers.noise_scale)
        return student.generate(scheduler, numbers.count, images, **options)

    def describe(numbers: Numbers, made: dict[str, Any]) -> FittedSolver:
        return FittedSolver(solver=to_solver(numbers), made=made)

    return Target(
        title=f"{count} evaluations",
        begins_at=best.name,
        start=from_solver(best.solver),
        generate=generate,
        describe=describe,
        computed=count,
    )
