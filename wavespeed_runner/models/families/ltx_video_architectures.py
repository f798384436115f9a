"""Published and tiny shapes of LTX-Video. Data only."""

from __future__ import annotations

from typing import Any

from ..weights import random_init

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "LTXVideoTransformer3DModel",
        {
            "in_channels": 128,
            "num_attention_heads": 32,
            "attention_head_dim": 64,
            "cross_attention_dim": 2048,
            "num_layers": 28,
            "caption_channels": 4096,
        },
    ),
    "vae": (
        "AutoencoderKLLTXVideo",
        {
            "latent_channels": 128,
            "block_out_channels": (128, 256, 512, 512),
            "decoder_block_out_channels": (128, 256, 512, 512),
            "layers_per_block": (4, 3, 3, 3, 4),
            "decoder_layers_per_block": (4, 3, 3, 3, 4),
            "timestep_conditioning": False,
        },
    ),
    "text_encoder": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
}
"""Version 0.9.0 as published in https://huggingface.co/Lightricks/LTX-Video."""

NOISY_VAE: dict[str, Any] = {
    "block_out_channels": (128, 256, 512, 1024, 2048),
    "down_block_types": ("LTXVideo095DownBlock3D",) * 4,
    "decoder_block_out_channels": (256, 512, 1024),
    "layers_per_block": (4, 6, 6, 2, 2),
    "decoder_layers_per_block": (5, 5, 5, 5),
    "spatio_temporal_scaling": (True,) * 4,
    "decoder_spatio_temporal_scaling": (True,) * 3,
    "decoder_inject_noise": (False,) * 4,
    "downsample_type": ("spatial", "temporal", "spatiotemporal", "spatiotemporal"),
    "upsample_residual": (True,) * 3,
    "upsample_factor": (2,) * 3,
    "timestep_conditioning": True,
    "spatial_compression_ratio": 32,
    "temporal_compression_ratio": 8,
}
"""The autoencoder of version 0.9.5: https://huggingface.co/Lightricks/LTX-Video-0.9.5."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "cross_attention_dim": 64,
        "num_layers": 3,
        "caption_channels": 32,
    },
    vae={
        "block_out_channels": (8, 8, 8, 8),
        "decoder_block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1,) * 5,
        "decoder_layers_per_block": (1,) * 5,
    },
    text_encoder=random_init.TINY_T5,
)
TINY_NOISY_VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 16, 16),
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1,) * 4,
}
"""Latents keep their 128 channels, 1/32 of the size and 1/8 of the frames."""
