"""The numbers of a solver as tensors, and the loss that both ways of fitting them minimise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..config.solver import Solver
from ..samplers.fitted import to_tensors

if TYPE_CHECKING:
    from torch import Tensor

BOUND = 0.05
"""Relative error of an image above which it counts little more: images that have become another one would otherwise
rule the fit, though no solver brings them back."""
TRAINING_STEPS = 1000
"""Timesteps are divided by it, so that all free numbers are of the same order."""


def robust_loss(errors: Tensor) -> Tensor:
    """(n,): e / (e + BOUND) + BOUND log e: bounded for what is lost, and never satisfied with what is good."""
    errors = errors.clamp(min=1e-9)
    return errors / (errors + BOUND) + BOUND * errors.log()


def robust_weights(errors: Tensor) -> Tensor:
    """(n,): the derivative of `robust_loss`, by which an image counts in a least squares step."""
    errors = errors.clamp(min=1e-9)
    return BOUND / (errors + BOUND) ** 2 + BOUND / errors


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


def from_solver(solver: Solver) -> Numbers:
    """A solver's numbers as tensors."""
    times, noise, weights = to_tensors(solver)
    return Numbers(times=times, noise=noise, weights=weights, noise_scale=solver.noise_scale)


def to_solver(numbers: Numbers) -> Solver:
    """The numbers as a calibration keeps them: 9 significant digits, which float32 needs."""

    def plain(tensor: Tensor) -> list[float]:
        return [float(f"{value:.9g}") for value in tensor.detach().tolist()]

    return Solver(
        timesteps=plain(numbers.times),
        noise_weights=plain(numbers.noise),
        output_weights=[plain(row[: n + 1]) for n, row in enumerate(numbers.weights)],
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
