"""Fits numbers by trying what each of them changes: for models that cannot be differentiated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from .fit_gradient import State
from .fit_numbers import Fittable, Rollout, robust_loss, robust_weights

if TYPE_CHECKING:
    from torch import Tensor

F = TypeVar("F", bound=Fittable)
TRY = 2e-3
"""How far a number is moved to see what it changes; downwards where it may not go up."""
DAMPING = (1e-3, 1e-7, 1e4)
"""Of the least squares steps: at first, least, most."""


def fit_by_differences(
    numbers: F,
    roll_out: Callable[[F], Rollout],
    reference: Tensor,
    *,
    iterations: int,
    state: State | None = None,
) -> Iterator[tuple[F, State]]:
    """Levenberg-Marquardt steps with finite differences: for models that cannot be differentiated.

    Every free number whose derivative is not known is moved a little and all images are generated again. Images are
    weighted by `robust_weights`.

    Args:
        numbers: where the fit starts.
        roll_out: generates all images.
        reference: (images, D), what should come out.
        iterations: steps at most.
        state: what an earlier fit yielded last; this one goes on from there.

    Yields:
        The numbers after each step, and what the fit needs to go on. Ends where no step makes them better.
    """
    if state is not None:
        numbers = numbers.put([state[f"value.{i}"] for i in range(len(numbers.list_free()))])
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
            tried = unpack(pack(numbers) + _solve(a, b, damping), numbers)
            after = roll_out(tried)
            if robust_loss(_errors(after.result, reference, size)).mean() < loss:
                break
            damping *= 6
        else:
            return
        numbers, now, damping = tried, after, max(damping / 10, least)
        yield numbers, {f"value.{i}": part.values.clone() for i, part in enumerate(numbers.list_free())}


def _errors(result: Tensor, reference: Tensor, size: Tensor) -> Tensor:
    return (result.float() - reference.float()).square().mean(1) / size


def pack(numbers: Fittable) -> Tensor:
    """All free numbers in a row."""
    import torch

    return torch.cat([part.values for part in numbers.list_free()])


def unpack(values: Tensor, like: F) -> F:
    """The numbers that such a row means, as near as they are allowed."""
    parts: Sequence[Tensor] = values.split([len(part.values) for part in like.list_free()])
    return like.put(like.correct(parts))


def differentiate(numbers: F, now: Rollout, roll_out: Callable[[F], Rollout]) -> Tensor:
    """(free numbers, images, D): how the result changes with each number."""
    import torch

    values, known = pack(numbers), numbers.find_derivatives(now)
    jacobian = torch.zeros(len(values), *now.result.shape)
    for i in range(len(values)):
        if i in known:
            jacobian[i] = known[i]
            continue
        for move in (TRY, -TRY):
            moved = values.clone()
            moved[i] += move
            tried = unpack(moved, numbers)
            if distance := float(pack(tried)[i] - values[i]):
                jacobian[i] = (roll_out(tried).result - now.result) / distance
                break
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
