"""Puts back, outside a mask, what was there before it was painted over."""

from __future__ import annotations

from dataclasses import dataclass

from ..artifacts import Images
from ..errors import RunError
from .interface import stage


@dataclass(kw_only=True)
class OverlayOptions:
    """None."""


@stage("overlay", options=OverlayOptions)
def overlay(options: OverlayOptions, *, images: Images, original: Images, mask: Images) -> Images:
    """`images` where the mask is white, `original` where it is black, a mixture in between.

    Inpainting keeps latents, not pixels: what lies outside the mask has been through the autoencoder, and shifts a
    little. original and mask: as many as there are images, or one for all, of the same size.
    """
    import numpy as np

    new, old, white = (value.tensors["images"].astype(np.float64) for value in (images, original, mask))
    if not new.shape[1:] == old.shape[1:] == white.shape[1:]:
        sizes = ", ".join(f"{batch.shape[2]}x{batch.shape[1]}" for batch in (new, old, white))
        raise RunError(f"overlay: images, original and mask are of different sizes ({sizes})")
    return Images(tensors={"images": np.rint(old + white / 255 * (new - old)).astype(np.uint8)})
