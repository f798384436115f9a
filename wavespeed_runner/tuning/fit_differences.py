"""Fits a sampler's numbers by trying what each of them changes: for models that cannot be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .fit_numbers import TRAINING_STEPS, Numbers, keep_descending, robust_loss, robust_weights

if TYPE_CHECKING:
    from torch import Tensor

TRY = 2e-3
"""How far a number is moved to see what it changes."""
DAMPING = (1e-3, 1e-7, 1e4)
"""Of the least squares steps: at first, least, most."""


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """What a solver made of some images, each flat: D numbers an image."""

    noise: Tensor
    """(images, D), multiplied with the noise scale."""
    outputs: list[Tensor]
    """K times (images, D)."""
    result: Tensor
    """(images, D)"""


def fit_by_differences(
    numbers: Numbers, roll_out: Callable[[Numbers], Rollout], reference: Tensor, *, iterations: int
) -> Iterator[Numbers]:
    """Levenberg-Marquardt steps with finite differences: for models that cannot be differentiated.

    The result is linear in the last row of weights, whose derivatives are known; every other number is moved a little
    and all images are generated again, K (K + 3) / 2 - 1 times a step. Images are weighted by `robust_weights`.

    Args:
        numbers: where the fit starts.
        roll_out: generates all images.
        reference: (images, D), what should come out.
        iterations: steps at most.

    Yields:
        The numbers after each step. Ends where no step makes them better.
    """
    now = roll_out(numbers)
    size = reference.float().square().mean(1).clamp(min=1e-12)
    damping, least, most = DAMPING
    for _ in range(iterations):
        errors = _errors(now.result, reference, size)
        jacobian = differentiate(numbers, now, roll_out)
        weights = (robust_weights(errors) / size).double()
        a, b = _normal_equations(jacobian, reference - now.result, weights)
        loss = robust_loss(errors).mean()
        while damping <= most:
            step = _solve(a, b, damping)
            tried = _move(numbers, step)
            after = roll_out(tried)
            if robust_loss(_errors(after.result, reference, size)).mean() < loss:
                break
            damping *= 6
        else:
            return
        numbers, now, damping = tried, after, max(damping / 10, least)
        yield numbers


def _errors(result: Tensor, reference: Tensor, size: Tensor) -> Tensor:
    return (result.float() - reference.float()).square().mean(1) / size


def pack(numbers: Numbers) -> Tensor:
    """All free numbers in a row: timesteps / 1000, noise weights, output weights row by row."""
    import torch

    rows = [numbers.weights[n, : n + 1] for n in range(numbers.count)]
    return torch.cat([numbers.times / TRAINING_STEPS, numbers.noise, *rows])


def _unpack(values: Tensor, like: Numbers) -> Numbers:
    import torch

    count = like.count
    weights, first = torch.zeros_like(like.weights), 2 * count
    for n in range(count):
        weights[n, : n + 1] = values[first : first + n + 1]
        first += n + 1
    times = keep_descending(values[:count]) * TRAINING_STEPS
    return replace(like, times=times, noise=values[count : 2 * count].clone(), weights=weights)


def _move(numbers: Numbers, step: Tensor) -> Numbers:
    return _unpack(pack(numbers) + step, numbers)


def differentiate(numbers: Numbers, now: Rollout, roll_out: Callable[[Numbers], Rollout]) -> Tensor:
    """(free numbers, images, D): how the result changes with each number."""
    import torch

    values, count = pack(numbers), numbers.count
    jacobian = torch.zeros(len(values), *now.result.shape)
    last = len(values) - count
    for i in range(len(values)):
        if i == 2 * count - 1:
            jacobian[i] = now.noise
        elif i >= last:
            jacobian[i] = now.outputs[i - last]
        else:
            moved = values.clone()
            moved[i] += -TRY if i < count else TRY
            tried = _unpack(moved, numbers)
            jacobian[i] = (roll_out(tried).result - now.result) / float(pack(tried)[i] - values[i] or TRY)
    return jacobian


def _normal_equations(jacobian: Tensor, left: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix and right side of the weighted least squares step, image by image in float64."""
    import torch

    count, size = len(jacobian), left.shape[1]
    a, b = torch.zeros(count, count, dtype=torch.float64), torch.zeros(count, dtype=torch.float64)
    for image, weight in enumerate(weights):
        rows = jacobian[:, image].double()
        a += weight / size * (rows @ rows.T)
        b += weight / size * (rows @ left[image].double())
    return a, b


def _solve(a: Tensor, b: Tensor, damping: float) -> Tensor:
    import torch

    diagonal = a.diagonal().clamp(min=1e-12)
    solution: Tensor = torch.linalg.solve(a + damping * torch.diag(diagonal), b)
    return solution
