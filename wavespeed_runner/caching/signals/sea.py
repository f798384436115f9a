"""A signal in Fourier space: the part of the denoiser's input that is image by now, not noise.

Source: SeaCache, https://arxiv.org/abs/2602.18993; on the latents, as diffusers' `sea_cache.py` has it (the tests hold
us to that filter), not on the first block's modulated input, so that it fits every model and no block runs for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..interfaces import Seen
from ..predictors.reuse import to_float32

if TYPE_CHECKING:
    from torch import Tensor

OF_VIDEOS, OF_IMAGES = 3.0, 2.0
"""Exponents: SeaCache's for videos; for images the 1 / f^2 of natural images (Field 1987,
https://doi.org/10.1364/JOSAA.4.002379)."""
CLOSE = 1e-6
"""Sigma of flow matching is taken as at least so far from 0 and from 1."""


@dataclass(kw_only=True)
class FilteredLatents(PartConfig):
    name: str = "filtered_latents"
    power_exponent: float | None = None
    """An image's power is taken to fall as 1 / frequency^this along each axis; null: 3 for videos, 2 for images."""

    def __post_init__(self) -> None:
        exponent = self.power_exponent
        if exponent is not None and not (isfinite(exponent) and exponent > 0):
            raise ConfigError(
                f"cache.signal.power_exponent={exponent}: a number above 0 (SeaCache: 3.0 for videos), or null"
            )


@register("cache/signal", "filtered_latents", FilteredLatents)
class FilteredLatentsSignal:
    """The denoiser's input behind a Wiener filter whose gain follows the noise level."""

    looks_at_latents = True

    def __init__(self, options: FilteredLatents) -> None:
        self.exponent = options.power_exponent

    def __call__(self, seen: Seen) -> Tensor | None:
        if seen.latents is None:
            return None
        image, noise = scales(seen.at.sigma, flow=seen.flow)
        return filtered(seen.latents, image, noise, exponent=self.exponent, grid=seen.grid, channels=seen.channels)


def scales(sigma: float, *, flow: bool) -> tuple[float, float]:
    """(a, b) of the denoiser's input a * image + b * noise.

    Diffusion samplers that keep image + sigma * noise (Euler, Heun, the SDE solvers) have it divided by
    sqrt(1 + sigma^2), in `scale_model_input`, before the denoiser sees it; the others keep it like this all the way. So
    what is filtered, the denoiser's input, is the same mixture under every sampler.
    """
    if flow:
        sigma = min(max(sigma, CLOSE), 1.0 - CLOSE)
        return 1.0 - sigma, sigma
    a = (1.0 + sigma**2) ** -0.5
    return a, sigma * a


def filtered(
    latents: Tensor,
    image: float,
    noise: float,
    *,
    exponent: float | None = None,
    grid: tuple[int, ...] | None = None,
    channels: int = 1,
) -> Tensor:
    """Latents with each frequency scaled by the Wiener gain a S / (a^2 S + b^2), S = 1 / |f|^exponent.

    The gain is the product of those along height, width and, of videos, time, and is 1 on average, so that changes at
    different noise levels can be added up. Rows are filtered apart, and nothing waits for the device.

    Args:
        latents: (n, channels, h, w), (n, channels, frames, h, w), or, with their grid, tokens (n, tokens, channels).
        image: a, the image's share of them.
        noise: b, the noise's.
        exponent: null: 3 for several frames, else 2.
        grid: (h, w) or (frames, h, w) of tokens.
        channels: the axis of the channels where there is no grid; 2 for CogVideoX, whose frames come first.

    Returns:
        In the layout of the latents, tokens by their grid, in float32 at least.

    Raises:
        RunError: tokens without a grid.
    """
    import torch

    if latents.ndim == 3:
        if grid is None:
            raise RunError(
                f"cache/signal=filtered_latents: how the {latents.shape[1]} tokens of the latents lie in the image "
                "is not known; take cache/signal=first_block_residual"
            )
        latents, channels = latents.unflatten(1, grid), len(grid) + 1
    axes = [axis for axis in range(1, latents.ndim) if axis != channels]
    if exponent is None:
        exponent = OF_VIDEOS if len(axes) == 3 and latents.shape[axes[0]] > 1 else OF_IMAGES
    latents = to_float32(latents)
    spectrum = torch.fft.rfftn(latents, dim=axes)
    for axis in axes:
        frequencies = torch.fft.fftfreq(latents.shape[axis], device=latents.device, dtype=latents.dtype).abs()
        falloff = frequencies**exponent  # 1 / S, which unlike S is finite at frequency 0
        gain = image / (image**2 + noise**2 * falloff)
        gain = (gain / gain.mean())[: spectrum.shape[axis]]
        spectrum = spectrum * gain.reshape([-1 if i == axis else 1 for i in range(spectrum.ndim)])
    return torch.fft.irfftn(spectrum, s=[latents.shape[axis] for axis in axes], dim=axes)
