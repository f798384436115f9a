"""How far sampling is at each call of the denoiser, from 0 (pure noise) to 1: by the timesteps, or the noise levels.

Windows of cache strategies are given so in other programs (`cache.window`). ComfyUI's nodes turn a share of sampling
into a noise level (`percent_to_sigma` in https://github.com/comfyanonymous/ComfyUI/blob/master/comfy/model_sampling.py)
and act between two of them; here each noise level is turned back into a share, which compares the same.
"""

from __future__ import annotations

from math import exp
from typing import Any

from ..config.schema import Window
from ..errors import RunError
from .noise_levels import read_noise_levels

DIGITS = 9
"""1 - 800/1000 is to be 0.2."""


def measure_progress(scheduler: Any, window: Window, *, flow: bool) -> list[float]:
    """The share of sampling that is done at each of `scheduler.timesteps`, from 0 to 1.

    Args:
        scheduler: with its schedule set, by the pipeline that runs.
        window: `timesteps`: 1 - t/T, of T training timesteps. `sigmas`: 1 - the training time, from 0 to 1, that has
            the step's noise level: for flow matching before the scheduler's shift, for diffusion by the logarithm of
            the noise levels between training timesteps.
        flow: whether noise levels are those of flow matching.

    Raises:
        RunError: the scheduler says nothing of the kind.
    """
    if window is Window.timesteps:
        total = float(scheduler.config.get("num_train_timesteps") or 1000)
        shares = [round(1 - float(t) / total, DIGITS) for t in scheduler.timesteps.tolist()]
    else:
        levels = read_noise_levels(scheduler)
        shares = [1 - _undo_shift(level, _find_shift(scheduler)) for level in levels] if flow else _look_up(scheduler)
    if not shares or not all(-1e-3 <= share <= 1.001 for share in shares):
        raise RunError(
            f"cache.window={window.value}: {type(scheduler).__name__} has no training timesteps that say how far "
            "sampling is; cache.window=steps works with every sampler"
        )
    return [min(max(share, 0.0), 1.0) for share in shares]


def _find_shift(scheduler: Any) -> float:
    """The s of sigma = s t / (1 + (s - 1) t): fixed, or as the pipeline has set it for the size of the image."""
    config = scheduler.config
    mu = getattr(scheduler, "last_mu", None)
    if config.get("use_dynamic_shifting") and mu is not None:
        return float(mu) if config.get("time_shift_type") == "linear" else exp(mu)
    return float(config.get("flow_shift") or config.get("shift") or 1.0)


def _undo_shift(sigma: float, shift: float) -> float:
    """The time from 0 to 1 that the shift moves to this noise level."""
    return sigma / (shift - (shift - 1) * sigma)


def _look_up(scheduler: Any) -> list[float]:
    """Of diffusion models: where each noise level lies among those of the training timesteps."""
    import numpy as np

    alphas_cumprod = getattr(scheduler, "alphas_cumprod", None)
    if alphas_cumprod is None:
        return []
    abars = alphas_cumprod.double().cpu().clamp(min=1e-12).numpy()
    table = 0.5 * np.log((1 - abars) / abars)
    levels = np.log(np.maximum(read_noise_levels(scheduler), 1e-12))
    return [1 - float(t) / (len(table) - 1) for t in np.interp(levels, table, np.arange(len(table)))]
