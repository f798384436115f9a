"""Published and tiny shapes of HunyuanVideo 1.5. Data only."""

from __future__ import annotations

from typing import Any

from ..text.encoders import QWEN2_5_VL
from ..weights import random_init

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "HunyuanVideo15Transformer3DModel",
        {
            "in_channels": 65,
            "out_channels": 32,
            "num_attention_heads": 16,
            "attention_head_dim": 128,
            "num_layers": 54,
            "num_refiner_layers": 2,
            "text_embed_dim": 3584,
            "text_embed_2_dim": 1472,
            "image_embed_dim": 1152,
            "rope_axes_dim": (16, 56, 56),
            "target_size": 640,
            "task_type": "t2v",
        },
    ),
    "vae": (
        "AutoencoderKLHunyuanVideo15",
        {"latent_channels": 32, "block_out_channels": (128, 256, 512, 1024, 1024), "layers_per_block": 2},
    ),
    "text_encoder": ("Qwen2_5_VLTextModel", QWEN2_5_VL[1]["text_config"]),
    "text_encoder_2": random_init.t5_encoder(1472, ff=3584, layers=12, heads=6, vocab_size=1510),
}
"""480p as published: https://huggingface.co/hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v."""

IMAGE_ENCODER: random_init.ComponentSpecs = {
    "image_encoder": (
        "SiglipVisionModel",
        {
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_hidden_layers": 27,
            "num_attention_heads": 16,
            "image_size": 384,
            "patch_size": 14,
        },
    )
}
"""Image encoder of image-to-video, as published in FLUX.1-Redux-dev."""

TINY_TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "num_layers": 3,
    "num_refiner_layers": 1,
    "text_embed_dim": 32,
    "text_embed_2_dim": 32,
    "image_embed_dim": 32,
    "rope_axes_dim": (4, 6, 6),
    "target_size": 64,
}
TINY_IMAGE_ENCODER: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
}
"""Latents keep their 32 channels, 1/16 of the size and 1/4 of the frames; an image is 16 tokens instead of 729."""
TOKENS = {"tokenizer_max_length": 1000, "tokenizer_2_max_length": 256, "vision_num_semantic_tokens": 729}
"""Tokens of the prompt, of letters to draw, and of a first frame, whose place is kept without one too: attributes of
the pipelines. Blocks compute all of them, padding included."""
TINY_TOKENS = {"tokenizer_max_length": 256, "tokenizer_2_max_length": 64, "vision_num_semantic_tokens": 16}
TINY_TEMPLATE = {"prompt_template_encode_start_idx": 493}
"""Tokens before the prompt, which are cut off: 108 with the published tokenizer, and more where each is a byte."""
