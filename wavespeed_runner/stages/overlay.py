"""The stage `overlay`: after inpainting, restores the original pixels outside the mask."""

from __future__ import annotations

from dataclasses import dataclass

from ..artifacts import Images
from ..errors import RunError
from .interface import stage


@dataclass(kw_only=True)
class OverlayOptions:
    """`overlay` has no options."""


@stage("overlay", options=OverlayOptions)
def overlay(options: OverlayOptions, *, images: Images, original: Images, mask: Images) -> Images:
    """Blends images by a mask: `images` where it is white, `original` where it is black, a mixture in between.

    Inpainting keeps latents outside the mask, not pixels; these pixels have been through the VAE and shift a little.

    Args:
        options: none.
        images: the inpainted images.
        original: one for each image, or one for all; of the same size.
        mask: one for each image, or one for all; of the same size.

    Raises:
        RunError: the sizes differ.
    """
    import numpy as np

    new, old, weight = (value.tensors["images"].astype(np.float64) for value in (images, original, mask))
    if not new.shape[1:] == old.shape[1:] == weight.shape[1:]:
        sizes = ", ".join(f"{array.shape[2]}x{array.shape[1]}" for array in (new, old, weight))
        raise RunError(f"overlay: images, original and mask have different sizes ({sizes})")
    return Images(tensors={"images": np.rint(old + weight / 255 * (new - old)).astype(np.uint8)})
