"""The noise level of every call of the denoiser, whatever a scheduler keeps it as."""

from __future__ import annotations

from typing import Any

MAX_LEVEL = 1e4
"""Stands for the infinite level of schedules that begin with pure noise (zero terminal SNR)."""


def read_noise_levels(scheduler: Any) -> list[float]:
    """One number for each of `scheduler.timesteps`: sigma of flow matching, else sqrt((1 - abar) / abar).

    Schedulers that have `sigmas` keep just that, an entry a timestep; the others (DDIM, DDPM, PNDM, LCM, TCD, and the
    solvers of CogVideoX) keep abar, `alphas_cumprod`, by training step. Empty for one that has neither.
    """
    calls = len(scheduler.timesteps)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(sigmas) >= calls:
        return [min(sigma, MAX_LEVEL) for sigma in sigmas[:calls].tolist()]
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is None:
        return []
    found = kept.cpu()[scheduler.timesteps.cpu().long()].tolist()
    return [min(((1 - abar) / abar) ** 0.5, MAX_LEVEL) if abar > 0 else MAX_LEVEL for abar in found]


def count_calls(pipe: Any) -> int:
    """Calls of the denoiser in the pipeline's schedule as it runs: an image that is started from shortens it.

    Asked while the pipeline runs. PixArt's pipelines do not say it; they start from noise alone.
    """
    return int(getattr(pipe, "num_timesteps", len(pipe.scheduler.timesteps)))
