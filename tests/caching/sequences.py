"""Residual sequences that predictors are tested on, and a player that computes some steps and predicts the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from wavespeed_runner.caching.interfaces import StepInfo


def at(step: int, steps: int, sigma: float | None = None) -> StepInfo:
    return StepInfo(step=step, steps=steps, sigma=1 - step / steps if sigma is None else sigma)


def play(
    predictor: Any,
    residual: Callable[[int], torch.Tensor],
    computed: Iterable[int],
    steps: int,
    *,
    sigmas: Callable[[int], float] | None = None,
    signals: Callable[[int], torch.Tensor] | None = None,
) -> dict[int, torch.Tensor]:
    """Plays a generation of one token stream: {cached step: predicted residual}.

    Checks that recording leaves the residuals untouched.
    """
    predicted = {}
    for step in range(steps):
        where = at(step, steps, sigmas(step) if sigmas else None)
        signal = signals(step) if signals else None
        if step in computed:
            residuals = {"hidden_states": residual(step)}
            before = {name: tensor.clone() for name, tensor in residuals.items()}
            predictor.record_computed(where, residuals, signal)
            assert all(torch.equal(before[name], residuals[name]) for name in residuals)
        else:
            predicted[step] = predictor.predict(where, signal)["hidden_states"]
    return predicted


def random_sequence(steps: int, shape: tuple[int, ...] = (1, 5, 3), seed: int = 0) -> list[torch.Tensor]:
    """Random float32 residuals; exact values that a float64 reference can be compared with."""
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.normal(size=shape).astype(np.float32)) for _ in range(steps)]


def smooth_residuals(steps: int, size: int = 60, seed: int = 0) -> np.ndarray:
    """Residuals like a denoiser's, (steps, size): neighbours differ by some hundredths, plus a little noise."""
    generator = np.random.default_rng(seed)
    time = np.linspace(0, 1, steps)
    curves = np.stack([np.ones(steps), time, np.cos(3 * time), np.exp(-5 * time)], axis=1)
    return curves @ generator.normal(size=(4, size)) + 0.01 * generator.normal(size=(steps, size))


def gram_triangle(residuals: np.ndarray) -> list[list[float]]:
    """Lower triangle of the residuals' Gram matrix."""
    gram = residuals @ residuals.T
    return [gram[i, : i + 1].tolist() for i in range(len(gram))]
