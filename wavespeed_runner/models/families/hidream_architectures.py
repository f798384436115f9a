"""Published and tiny shapes of HiDream-I1. Data only."""

from __future__ import annotations

from ..text import encoders
from ..weights import random_init
from .flux import TINY_VAE, VAE

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "HiDreamImageTransformer2DModel",
        {
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 16,
            "num_single_layers": 32,
            "attention_head_dim": 128,
            "num_attention_heads": 20,
            "caption_channels": (4096, 4096),
            "text_emb_dim": 2048,
            "num_routed_experts": 4,
            "num_activated_experts": 2,
            "axes_dims_rope": (64, 32, 32),
            "max_resolution": (128, 128),
            "llama_layers": (*range(32), *(31,) * 16),
        },
    ),
    "vae": ("AutoencoderKL", VAE),
    "text_encoder": random_init.clip_encoder(
        768, layers=12, heads=12, class_name="CLIPTextModelWithProjection", max_position_embeddings=248
    ),
    "text_encoder_2": random_init.clip_encoder(
        1280,
        layers=32,
        heads=20,
        class_name="CLIPTextModelWithProjection",
        max_position_embeddings=248,
        hidden_act="gelu",
    ),
    "text_encoder_3": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
    "text_encoder_4": encoders.LLAMA_3_1,
}
"""HiDream-I1 as published in the config.json files of https://huggingface.co/HiDream-ai/HiDream-I1-Full. Its
autoencoder is that of FLUX.1; its CLIP encoders were trained for longer prompts."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_layers": 2,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "caption_channels": (32, 32),
        "text_emb_dim": 64,
        "axes_dims_rope": (8, 4, 4),
        "llama_layers": (0, 1, 1, 1),
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_CLIP,
    text_encoder_2=random_init.TINY_CLIP,
    text_encoder_3=random_init.TINY_T5,
    text_encoder_4=encoders.TINY_LLM,
)
"""Every component and expert, each with few and narrow layers."""
