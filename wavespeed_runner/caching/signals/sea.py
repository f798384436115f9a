"""A signal filtered in Fourier space: the part of the denoiser's input that is already image, not noise (SeaCache).

Source: SeaCache, https://arxiv.org/abs/2602.18993. As in diffusers' `sea_cache.py` (tests compare with that filter) it
is applied to the latents, not to the first block's modulated input, so it fits every model and no block runs for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, ClassVar

from ...config.schema import PartConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..interfaces import DenoiserCall
from ..predictors.history import to_float32

if TYPE_CHECKING:
    from torch import Tensor

VIDEO_EXPONENT, IMAGE_EXPONENT = 3.0, 2.0
"""Default exponents: SeaCache's for videos; for images the 1 / f^2 of natural images (Field 1987,
https://doi.org/10.1364/JOSAA.4.002379)."""
SIGMA_MARGIN = 1e-6
"""Flow-matching sigmas are clamped to this distance from 0 and 1."""


@dataclass(kw_only=True)
class FilteredLatents(PartConfig):
    """Options of `cache/signal=filtered_latents`."""

    name: str = "filtered_latents"
    power_exponent: float | None = None
    """An image's power is taken to fall as 1 / frequency^this along each axis; null: 3 for videos, 2 for images."""

    def __post_init__(self) -> None:
        """Raises `ConfigError` if the exponent is not a number above 0."""
        exponent = self.power_exponent
        if exponent is not None and not (isfinite(exponent) and exponent > 0):
            raise ConfigError(
                f"cache.signal.power_exponent={exponent}: must be a number above 0 (SeaCache: 3.0 for videos), or null"
            )


@register("cache/signal", "filtered_latents", FilteredLatents)
class FilteredLatentsSignal:
    """The denoiser's input after a Wiener filter whose gain follows the noise level."""

    needs_latents: ClassVar[bool] = True

    def __init__(self, options: FilteredLatents) -> None:
        """Takes the exponent."""
        self.exponent = options.power_exponent

    def __call__(self, call: DenoiserCall) -> Tensor | None:
        """The filtered latents, see `filter_latents`."""
        if call.latents is None:
            return None
        image, noise = split_noise_level(call.at.sigma, flow=call.flow)
        return filter_latents(
            call.latents, image, noise, exponent=self.exponent, grid=call.grid, channel_axis=call.channel_axis
        )


def split_noise_level(sigma: float, *, flow: bool) -> tuple[float, float]:
    """(a, b) of the denoiser's input a * image + b * noise.

    Diffusion samplers that keep image + sigma * noise (Euler, Heun, the SDE solvers) divide it by sqrt(1 + sigma^2), in
    `scale_model_input`, before the denoiser gets it; the others keep it divided all the way. So what is filtered, the
    denoiser's input, is the same mixture under every sampler.
    """
    if flow:
        sigma = min(max(sigma, SIGMA_MARGIN), 1.0 - SIGMA_MARGIN)
        return 1.0 - sigma, sigma
    a = (1.0 + sigma**2) ** -0.5
    return a, sigma * a


def filter_latents(
    latents: Tensor,
    image: float,
    noise: float,
    *,
    exponent: float | None = None,
    grid: tuple[int, ...] | None = None,
    channel_axis: int = 1,
) -> Tensor:
    """Scales each frequency of the latents by the Wiener gain a S / (a^2 S + b^2), S = 1 / |f|^exponent.

    The gain is the product of those along height, width and, for videos, time, and is 1 on average, so that changes at
    different noise levels can be summed. Rows are filtered independently, and nothing waits for the device.

    Args:
        latents: (n, channels, h, w), (n, channels, frames, h, w), or, with their grid, tokens (n, tokens, channels).
        image: a, the image's share of them.
        noise: b, the noise's share.
        exponent: None: 3 for several frames, else 2.
        grid: (h, w) or (frames, h, w) of tokens.
        channel_axis: axis of the channels where there is no grid; 2 for CogVideoX, whose frames come first.

    Returns:
        Filtered latents in the same layout, tokens by their grid, in float32 at least.

    Raises:
        RunError: tokens without a grid.
    """
    import torch

    if latents.ndim == 3:
        if grid is None:
            raise RunError(
                f"cache/signal=filtered_latents: it is not known how the {latents.shape[1]} latent tokens of this "
                "pipeline are arranged in the image; use cache/signal=first_block_residual"
            )
        latents, channel_axis = latents.unflatten(1, grid), len(grid) + 1
    axes = [axis for axis in range(1, latents.ndim) if axis != channel_axis]
    if exponent is None:
        exponent = VIDEO_EXPONENT if len(axes) == 3 and latents.shape[axes[0]] > 1 else IMAGE_EXPONENT
    latents = to_float32(latents)
    spectrum = torch.fft.rfftn(latents, dim=axes)
    for axis in axes:
        frequencies = torch.fft.fftfreq(latents.shape[axis], device=latents.device, dtype=latents.dtype).abs()
        falloff = frequencies**exponent  # 1 / S, which unlike S is finite at frequency 0
        gain = image / (image**2 + noise**2 * falloff)
        gain = (gain / gain.mean())[: spectrum.shape[axis]]
        spectrum = spectrum * gain.reshape([-1 if i == axis else 1 for i in range(spectrum.ndim)])
    return torch.fft.irfftn(spectrum, s=[latents.shape[axis] for axis in axes], dim=axes)
