"""Exact solutions for a toy model: every pixel of the data is normal with deviation 0.5, in float64.

For such data the best prediction is known at every noise level, and so is where a deterministic sampler must end: the
spread of the noisy data shrinks to that of the data, and every point with it. A wrong prediction type, a wrong shift or
leftover noise ends elsewhere.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
import torch

DEVIATION = 0.5


def grid() -> torch.Tensor:
    """A few points of the noise, for solvers that follow pipeline."""
    return torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 9)


def crowd() -> torch.Tensor:
    """Many random noise values, for the final spread of stochastic samplers."""
    return torch.randn(1, 1, 5000, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def flow(scheduler: Any, steps: int, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(where it ends, where the flow x = s * noise + (1 - s) * data ends), called as FluxPipeline does."""
    if scheduler.config.get("use_flow_sigmas"):
        scheduler.set_timesteps(steps)
    else:
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps))
    scheduler.set_begin_index(0)
    x = noise
    whole = 1 if scheduler.timesteps.dtype == torch.int64 else 0
    for level, timestep in zip(scheduler.sigmas.double(), scheduler.timesteps, strict=False):
        # Some schedulers round timesteps to integers; the toy model is then evaluated at the noise level itself.
        s = level if whole else timestep.double() / 1000
        velocity = x * (s - (1 - s) * DEVIATION**2) / (s**2 + (1 - s) ** 2 * DEVIATION**2)
        x = _step(scheduler, velocity, timestep, x)
    return x, DEVIATION * noise


def diffusion(
    scheduler: Any, steps: int, noise: torch.Tensor, alphas_cumprod: torch.Tensor, prediction: str
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """(where it ends, where sqrt(a) * data + sqrt(1 - a) * noise ends, calls), called as Stable Diffusion does."""
    scheduler.set_timesteps(steps)
    table = torch.log((1 - alphas_cumprod) / alphas_cumprod).double()
    x, expected = noise * float(scheduler.init_noise_sigma), noise
    for index, timestep in enumerate(scheduler.timesteps):
        model_input = scheduler.scale_model_input(x, timestep)
        below = min(int(timestep), 999)
        part = float(timestep) - below
        a = torch.sigmoid(-((1 - part) * table[below] + part * table[min(below + 1, 999)]))
        spread = a * DEVIATION**2 + 1 - a
        noise_seen, data_seen = model_input * (1 - a).sqrt() / spread, model_input * a.sqrt() * DEVIATION**2 / spread
        velocity = a.sqrt() * noise_seen - (1 - a).sqrt() * data_seen
        if index == 0:
            expected = model_input * DEVIATION / spread.sqrt()
        x = _step(scheduler, noise_seen if prediction == "epsilon" else velocity, timestep, x)
    return x, expected, len(scheduler.timesteps)


def _step(scheduler: Any, output: torch.Tensor, timestep: Any, x: torch.Tensor) -> torch.Tensor:
    given = {}
    if "generator" in signature(scheduler.step).parameters:
        given["generator"] = torch.Generator().manual_seed(int(x.abs().sum() * 1000) % 2**31)
    return scheduler.step(output, timestep, x, return_dict=False, **given)[0].double()
