"""Reads the noise level (sigma) of every denoiser call from a scheduler, in whatever form it keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

MAX_LEVEL = 1e4
"""Stands for the infinite noise level of schedules that begin with pure noise (zero terminal SNR)."""


def read_noise_levels(scheduler: Any) -> list[float]:
    """The noise level of each of `scheduler.timesteps`: sigma of flow matching, else sqrt((1 - abar) / abar).

    Schedulers with `sigmas` keep exactly that, one entry a timestep. The others (DDIM, DDPM, PNDM, LCM, TCD, and the
    solvers of CogVideoX) keep abar, `alphas_cumprod`, by training step. Empty for a scheduler with neither.
    """
    calls = len(scheduler.timesteps)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(sigmas) >= calls:
        return [min(sigma, MAX_LEVEL) for sigma in sigmas[:calls].tolist()]
    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    if alphas_cumprod is None:
        return []
    abars = alphas_cumprod.cpu()[scheduler.timesteps.cpu().long()].tolist()
    return [min(((1 - abar) / abar) ** 0.5, MAX_LEVEL) if abar > 0 else MAX_LEVEL for abar in abars]


def count_calls(pipe: DiffusionPipeline) -> int:
    """Counts the denoiser calls of the running pipeline's schedule, which is shorter when it starts from an image.

    Only valid while the pipeline runs. PixArt's pipelines have no `num_timesteps`; they start from noise only.
    """
    return int(getattr(pipe, "num_timesteps", len(pipe.scheduler.timesteps)))
