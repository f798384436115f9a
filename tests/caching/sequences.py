"""What predictors are tested on: sequences of residuals, with some steps computed and the others predicted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

from wavespeed_runner.caching.interfaces import StepInfo


def at(step: int, steps: int, sigma: float | None = None) -> StepInfo:
    return StepInfo(step=step, steps=steps, sigma=1 - step / steps if sigma is None else sigma)


def played(
    predictor: Any,
    residual: Callable[[int], torch.Tensor],
    computed: Iterable[int],
    steps: int,
    *,
    sigmas: Callable[[int], float] | None = None,
    seen: Callable[[int], torch.Tensor] | None = None,
) -> dict[int, torch.Tensor]:
    """A generation of one stream: {skipped step: what was predicted}."""
    found = {}
    for step in range(steps):
        where = at(step, steps, sigmas(step) if sigmas else None)
        signal = seen(step) if seen else None
        if step in computed:
            given = {"hidden_states": residual(step)}
            before = {name: tensor.clone() for name, tensor in given.items()}
            predictor.record_computed(where, given, signal)
            assert all(torch.equal(before[name], given[name]) for name in given)
        else:
            found[step] = predictor.predict(where, signal)["hidden_states"]
    return found


def random_sequence(steps: int, shape: tuple[int, ...] = (1, 5, 3), seed: int = 0) -> list[torch.Tensor]:
    """Float32 values that a float64 reference can be set against."""
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.normal(size=shape).astype(np.float32)) for _ in range(steps)]
