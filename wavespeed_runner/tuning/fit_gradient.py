"""Fits numbers by gradients through all evaluations of the denoiser."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import TYPE_CHECKING, TypeVar

from ..errors import Unfit
from .fit_numbers import Fittable, robust_loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor

F = TypeVar("F", bound=Fittable)
log = logging.getLogger("wavespeed_runner")
State = Mapping[str, "Tensor"]
"""What the method needs to go on: free numbers, and Adam's averages."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How many steps on how many images."""

    images: int
    """How many there are."""
    iterations: int
    """Steps of Adam."""
    batch: int
    """Images a step, taken at random."""
    together: int = 1 << 30
    """So many of them are differentiated at once; the rest one after another, which saves memory."""
    seed: int = 0


def fit_by_gradient(
    numbers: F,
    errors_of: Callable[[F, Sequence[int]], Tensor],
    pace: Pace,
    *,
    done: int = 0,
    state: State | None = None,
) -> Iterator[tuple[F, State]]:
    """Adam through all evaluations, on random batches, with a learning rate that falls to 0 as a cosine.

    Args:
        numbers: where the fit starts.
        errors_of: (numbers that require gradients, indices of images) -> `student.relative_errors`.
        pace: how many steps.
        done: steps that an earlier fit has made; this one goes on as if it had not been interrupted.
        state: what that one yielded last.

    Yields:
        The numbers after each step, and what the fit needs to go on.
    """
    import torch

    free = [part.values.detach().clone().requires_grad_() for part in numbers.list_free()]
    rates = [part.rate for part in numbers.list_free()]
    optimizer = torch.optim.Adam([{"params": [tensor]} for tensor in free], betas=(0.9, 0.99))
    _restore(optimizer, free, state, done)
    batches = list_batches(pace)[done:]
    for step, chosen in enumerate(batches, done):
        optimizer.zero_grad()
        for first in range(0, len(chosen), pace.together):
            errors = errors_of(numbers.put(free), chosen[first : first + pace.together])
            (robust_loss(errors).sum() / len(chosen)).backward()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * 0.5 * (1 + cos(pi * step / pace.iterations))
        _refuse_missing(free)
        if all(bool(tensor.grad.isfinite().all()) for tensor in free if tensor.grad is not None):
            optimizer.step()
        else:
            log.warning("fit: the derivative at iteration %d is not finite; the numbers stay as they are", step + 1)
        with torch.no_grad():
            for tensor, corrected in zip(free, numbers.correct(free), strict=True):
                tensor.copy_(corrected)
        now = [tensor.detach().clone() for tensor in free]
        yield numbers.put(now), _collect(optimizer, free)


def _refuse_missing(free: Sequence[Tensor]) -> None:
    if any(tensor.grad is None for tensor in free):
        raise Unfit("the model gives no derivative of what is fitted; fit with gradients=false")


def list_batches(pace: Pace) -> list[list[int]]:
    """The images of each step, in a random order, each at most once before the next order begins."""
    import numpy as np

    rng, order = np.random.default_rng(pace.seed), list[int]()
    batches = []
    for _ in range(pace.iterations):
        if len(order) < pace.batch:
            order = rng.permutation(pace.images).tolist()
        batches.append(order[: pace.batch])
        order = order[pace.batch :]
    return batches


def _collect(optimizer: torch.optim.Optimizer, free: Sequence[Tensor]) -> dict[str, Tensor]:
    import torch

    tensors = {f"value.{i}": tensor.detach().clone() for i, tensor in enumerate(free)}
    for i, tensor in enumerate(free):
        for name in ("exp_avg", "exp_avg_sq"):
            tensors[f"{name}.{i}"] = optimizer.state[tensor].get(name, torch.zeros_like(tensor)).detach().clone()
    return tensors


def _restore(optimizer: torch.optim.Optimizer, free: Sequence[Tensor], state: State | None, done: int) -> None:
    import torch

    if state is None:
        return
    with torch.no_grad():
        for i, tensor in enumerate(free):
            tensor.copy_(state[f"value.{i}"])
            averages = {name: state[f"{name}.{i}"].clone() for name in ("exp_avg", "exp_avg_sq")}
            optimizer.state[tensor] = {"step": torch.tensor(float(done)), **averages}
