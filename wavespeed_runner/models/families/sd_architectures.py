"""The U-Net, autoencoder and text encoder of Stable Diffusion 1.5 and 2.1, full-size and tiny."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..weights import random_init


class Variant(Enum):
    """The two published architectures."""

    sd15 = "sd15"
    sd21 = "sd21"
    """Predicts velocity, at 768 pixels, and encodes prompts with OpenCLIP."""


def unet(
    *, sample_size: int, cross_attention_dim: int, heads: int | tuple[int, ...], **more: Any
) -> tuple[str, dict[str, Any]]:
    """Spec of a U-Net with four levels; the innermost has no attention. heads: for all levels, or one per level."""
    config: dict[str, Any] = {
        "sample_size": sample_size,
        "block_out_channels": (320, 640, 1280, 1280),
        "layers_per_block": 2,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "cross_attention_dim": cross_attention_dim,
        "attention_head_dim": heads,  # diffusers' name is wrong
    }
    return "UNet2DConditionModel", config | more


def vae(*, sample_size: int, scaling_factor: float, **more: Any) -> tuple[str, dict[str, Any]]:
    """Spec of the autoencoder of Stable Diffusion: 4 latent channels, 1/8 of the size."""
    config: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (128, 256, 512, 512),
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": sample_size,
        "scaling_factor": scaling_factor,
    }
    return "AutoencoderKL", config | more


FULL: dict[Variant, random_init.ComponentSpecs] = {
    Variant.sd15: {
        "unet": unet(sample_size=64, cross_attention_dim=768, heads=8),
        "vae": vae(sample_size=512, scaling_factor=0.18215),
        "text_encoder": random_init.clip_encoder(768, layers=12, heads=12),
    },
    Variant.sd21: {
        "unet": unet(
            sample_size=96,
            cross_attention_dim=1024,
            heads=(5, 10, 20, 20),
            use_linear_projection=True,
            upcast_attention=True,
        ),
        "vae": vae(sample_size=768, scaling_factor=0.18215),
        "text_encoder": random_init.clip_encoder(1024, layers=23, heads=16, hidden_act="gelu", projection_dim=512),
    },
}
"""As published in the config.json files of the repositories in `REPOS`."""

TINY_VAE = {"block_out_channels": (8, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4, "sample_size": 64}
TINY_UNET = {"sample_size": 8, "block_out_channels": (16, 32, 32, 32), "cross_attention_dim": 32, "norm_num_groups": 8}
TINY_HEADS: dict[Variant, int | tuple[int, ...]] = {Variant.sd15: 4, Variant.sd21: (1, 2, 2, 2)}
TINY = {
    variant: random_init.override_configs(
        parts,
        unet=TINY_UNET | {"attention_head_dim": TINY_HEADS[variant]},
        vae=TINY_VAE,
        text_encoder=random_init.TINY_CLIP,
    )
    for variant, parts in FULL.items()
}
"""Every level and layer of the U-Net, each narrow. Latents keep their 4 channels and 1/8 of the size."""
