"""A stage that turns images gray."""

from __future__ import annotations

from dataclasses import dataclass

from wavespeed_runner.artifacts import Images
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.stages import stage

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the perceived brightness (ITU-R BT.601)."""


@dataclass(kw_only=True)
class GrayscaleOptions:
    strength: float = 1.0
    """0: the images stay as they are; 1: no colour is left."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise ConfigError(f"strength={self.strength}: 0 to 1 is needed")


@stage("grayscale", options=GrayscaleOptions)
def grayscale(options: GrayscaleOptions, *, images: Images) -> Images:
    """Moves each pixel towards the gray of its brightness."""
    import numpy as np

    colour = images.tensors["images"].astype(np.float32)
    gray = (colour @ np.asarray(LUMA, dtype=np.float32))[..., None]
    mixed = colour + options.strength * (gray - colour)
    return Images(tensors={"images": np.clip(np.rint(mixed), 0, 255).astype(np.uint8)})
