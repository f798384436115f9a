"""A stage that takes the colour out of images."""

from __future__ import annotations

from dataclasses import dataclass

from wavespeed_runner.artifacts import Images
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.stages import stage

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in what the eye sees as brightness (ITU-R BT.601)."""


@dataclass(kw_only=True)
class GrayscaleOptions:
    strength: float = 1.0
    """0: the images as they are; 1: no colour left."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"grayscale: strength={self.strength} is not between 0 and 1")


@stage("grayscale", options=GrayscaleOptions)
def grayscale(options: GrayscaleOptions, *, images: Images) -> Images:
    """Images of the same size and type, each pixel moved towards the gray of its own brightness."""
    import numpy as np

    colour = images.tensors["images"].astype(np.float32)
    gray = (colour @ np.asarray(LUMA, dtype=np.float32))[..., None]
    mixed = colour + options.strength * (gray - colour)
    return Images(tensors={"images": np.clip(np.rint(mixed), 0, 255).astype(np.uint8)})
