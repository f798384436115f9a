"""Published and tiny shapes of FLUX.2-dev and FLUX.2-klein. Data only."""

from __future__ import annotations

from enum import Enum
from typing import Any

from ..text import encoders
from ..weights import random_init


class KleinVariant(Enum):
    """A size of FLUX.2-klein."""

    klein_4b = "klein_4b"
    klein_9b = "klein_9b"


VAE: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "latent_channels": 32,
    "norm_num_groups": 32,
    "sample_size": 1024,
}
TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 128,
    "num_layers": 8,
    "num_single_layers": 48,
    "attention_head_dim": 128,
    "num_attention_heads": 48,
    "joint_attention_dim": 15360,
    "mlp_ratio": 3.0,
    "axes_dims_rope": (32, 32, 32, 32),
    "rope_theta": 2000,
    "guidance_embeds": True,
}
DEV: random_init.ComponentSpecs = {
    "transformer": ("Flux2Transformer2DModel", TRANSFORMER),
    "vae": ("AutoencoderKLFlux2", VAE),
    "text_encoder": encoders.MISTRAL_SMALL,
}
"""FLUX.2-dev as published in the config.json files of https://huggingface.co/black-forest-labs/FLUX.2-dev."""

KLEIN: random_init.ComponentSpecs = random_init.override_configs(
    DEV | {"text_encoder": encoders.qwen3(2560, ff=9728, tied=True)},
    transformer={
        "num_layers": 5,
        "num_single_layers": 20,
        "num_attention_heads": 24,
        "joint_attention_dim": 7680,
        "guidance_embeds": False,
    },
)
"""FLUX.2-klein-4B as published in https://huggingface.co/black-forest-labs/FLUX.2-klein-4B."""

KLEIN_9B: random_init.ComponentSpecs = random_init.override_configs(
    DEV | {"text_encoder": encoders.qwen3(4096, ff=12288, tied=False)},
    transformer={
        "num_single_layers": 24,
        "num_attention_heads": 32,
        "joint_attention_dim": 12288,
        "guidance_embeds": False,
    },
)
"""FLUX.2-klein-9B: https://github.com/black-forest-labs/flux2/blob/main/src/flux2/model.py, and Qwen3 8B."""

TINY_TRANSFORMER: dict[str, Any] = {
    "num_layers": 2,
    "num_single_layers": 4,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": 96,
    "axes_dims_rope": (4, 4, 4, 4),
}
TINY_VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "sample_size": 128,
}
_MISTRAL = encoders.TINY_MISTRAL["text_config"] | {"num_hidden_layers": 31}
TINY_DEV = random_init.override_configs(
    DEV,
    transformer=TINY_TRANSFORMER,
    vae=TINY_VAE,
    text_encoder=encoders.TINY_MISTRAL | {"text_config": _MISTRAL},
)
TINY_KLEIN = random_init.override_configs(
    KLEIN,
    transformer=TINY_TRANSFORMER,
    vae=TINY_VAE,
    text_encoder=encoders.TINY_LLM | {"num_hidden_layers": 28},
)
"""Every component, each with narrow and few layers. The text encoders keep enough layers for the hidden states that the
pipeline reads: after layers 10, 20 and 30 of Mistral, 9, 18 and 27 of Qwen3. Latents keep their channels and their
share of the size."""
