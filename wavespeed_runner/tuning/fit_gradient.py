"""Fits a sampler's numbers by gradients through all evaluations of the denoiser."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import cos, pi
from typing import TYPE_CHECKING

from .fit_numbers import TRAINING_STEPS, Numbers, keep_descending, robust_loss

if TYPE_CHECKING:
    from torch import Tensor

LEARNING_RATE, TIME_RATE = 3e-3, 1e-3
"""Of the weights, relative to the largest ones; of the timesteps, relative to their range."""


def fit_by_gradient(
    numbers: Numbers,
    errors_of: Callable[[Numbers, Sequence[int]], Tensor],
    *,
    images: int,
    iterations: int,
    batch: int,
    seed: int = 0,
) -> Iterator[Numbers]:
    """Adam through all evaluations, on random batches, with a learning rate that falls to 0 as a cosine.

    Args:
        numbers: where the fit starts.
        errors_of: (numbers that require gradients, indices of images) -> `student.relative_errors`.
        images: how many there are.
        iterations: steps of Adam.
        batch: images a step.
        seed: of the batches.

    Yields:
        The numbers after each step.
    """
    import numpy as np
    import torch

    free = [numbers.times / TRAINING_STEPS, numbers.noise.clone(), numbers.weights.clone()]
    free = [tensor.clone().requires_grad_() for tensor in free]
    rates = [TIME_RATE, *(LEARNING_RATE * float(tensor.detach().abs().max()) for tensor in free[1:])]
    groups = [{"params": [tensor], "lr": rate} for tensor, rate in zip(free, rates, strict=True)]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + cos(pi * step / iterations)))
    rng, order = np.random.default_rng(seed), list[int]()
    for _ in range(iterations):
        if len(order) < batch:
            order = rng.permutation(images).tolist()
        chosen, order = order[:batch], order[batch:]
        current = replace(numbers, times=free[0] * TRAINING_STEPS, noise=free[1], weights=free[2].tril())
        optimizer.zero_grad()
        robust_loss(errors_of(current, chosen)).mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            free[0].copy_(keep_descending(free[0]))
        yield replace(
            numbers,
            times=free[0].detach() * TRAINING_STEPS,
            noise=free[1].detach().clone(),
            weights=free[2].detach().tril(),
        )
