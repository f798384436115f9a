"""Refuses autoencoders of a stranger whose decoder enlarges latents more than their configuration says."""

from __future__ import annotations

from typing import Any

RATIO_KEYS = (
    ("spatial_compression_ratio", "scale_factor_spatial"),
    ("temporal_compression_ratio", "scale_factor_temporal"),
)
"""How a VAE says by how much an image, and the frames of a video, are larger than latents: pipelines go by it."""
RATIO_LISTS = ("temperal_downsample", 0), ("block_out_channels", 1)
"""Lists by whose length they go otherwise: a side is twice as large for each entry, and for so many fewer."""


def refuse_ratios(vae: Any) -> None:
    """Raises `ValueError` for a VAE that enlarges latents more than it says: images would be larger than asked for.

    Decodes latents that have no memory. Where that does not work, nothing is said.
    """
    import torch

    spatial, temporal = _find_ratio(vae, RATIO_KEYS[0]), _find_ratio(vae, RATIO_KEYS[1])
    if spatial is None:
        lists = ((vae.config.get(key), less) for key, less in RATIO_LISTS)
        spatial = next((2 ** (len(listed) - less) for listed, less in lists if isinstance(listed, list | tuple)), None)
    channels = vae.config.get("latent_channels") or vae.config.get("z_dim")
    vae.to("meta")
    for shape in ((2, 2, 2), (2, 2)):
        try:
            with torch.no_grad():
                sample = vae.decode(torch.empty(1, channels, *shape, device="meta"), return_dict=False)[0]
            width, frames = sample.shape[-1], sample.shape[-3] if len(shape) == 3 else 0
        except Exception:  # diffusers' decoders raise anything
            continue
        if (spatial is not None and width > 2 * spatial) or (temporal is not None and frames > 2 * temporal):
            raise ValueError(
                f"it makes {width} x {width} pixels{f' and {frames} frames' * bool(frames)} of latents of 2 in each "
                f"direction, and its configuration says that it enlarges sides {spatial} and frames {temporal} times"
            )


def _find_ratio(vae: Any, keys: tuple[str, str]) -> float | None:
    """The first of these that its configuration or the model itself has."""
    found = (vae.config.get(key) or getattr(vae, key, None) for key in keys)
    return next((ratio for ratio in found if isinstance(ratio, int | float)), None)
