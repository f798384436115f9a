"""Published and tiny shapes of LTX-2 and LTX-2.3. Data only."""

from __future__ import annotations

from ..text.gemma import GEMMA3, TINY_GEMMA3
from ..weights import random_init

FULL: random_init.ComponentSpecs = {
    "transformer": ("LTX2VideoTransformer3DModel", {"num_layers": 48, "caption_channels": 3840, "rope_type": "split"}),
    "vae": (
        "AutoencoderKLLTX2Video",
        {"decoder_causal": False, "spatial_compression_ratio": 32, "temporal_compression_ratio": 8},
    ),
    "audio_vae": ("AutoencoderKLLTX2Audio", {}),
    "connectors": (
        "ltx2.LTX2TextConnectors",
        {"caption_channels": 3840, "text_proj_in_factor": 49, "rope_type": "split"},
    ),
    "text_encoder": GEMMA3,
    "vocoder": ("ltx2.LTX2Vocoder", {}),
}
"""As published: https://huggingface.co/Lightricks/LTX-2. Values left out are diffusers' defaults."""

_GATED = {"video_gated_attn": True, "audio_gated_attn": True}
_VAE_23 = {
    "block_out_channels": (256, 512, 1024, 1024),
    "layers_per_block": (4, 6, 4, 2, 2),
    "decoder_block_out_channels": (256, 512, 512, 1024),
    "decoder_layers_per_block": (4, 6, 4, 2, 2),
    "decoder_spatio_temporal_scaling": (True,) * 4,
    "decoder_inject_noise": (False,) * 5,
    "upsample_type": ("spatiotemporal", "spatiotemporal", "temporal", "spatial"),
    "upsample_residual": (False,) * 4,
    "upsample_factor": (2, 2, 1, 2),
    "decoder_spatial_padding_mode": "zeros",
}
FULL_23: random_init.ComponentSpecs = random_init.override_configs(
    FULL,
    transformer={
        "gated_attn": True,
        "cross_attn_mod": True,
        "audio_gated_attn": True,
        "audio_cross_attn_mod": True,
        "perturbed_attn": True,
        "use_prompt_embeddings": False,
    },
    vae=_VAE_23,
    connectors={
        **_GATED,
        "video_connector_num_attention_heads": 32,
        "video_connector_num_layers": 8,
        "audio_connector_num_attention_heads": 32,
        "audio_connector_attention_head_dim": 64,
        "audio_connector_num_layers": 8,
        "per_modality_projections": True,
        "proj_bias": True,
    },
) | {"vocoder": ("ltx2.LTX2VocoderWithBWE", {})}
"""LTX-2.3: what diffusers' script scripts/convert_ltx2_to_diffusers.py writes for version 2.3."""

_TINY_TRANSFORMER = {
    "num_layers": 3,
    "num_attention_heads": 4,
    "attention_head_dim": 16,
    "cross_attention_dim": 64,
    "audio_in_channels": 8,
    "audio_out_channels": 8,
    "audio_num_attention_heads": 4,
    "audio_attention_head_dim": 8,
    "audio_cross_attention_dim": 32,
    "caption_channels": 32,
}
_TINY_AUDIO = {"base_channels": 8, "ch_mult": (1, 1, 1), "num_res_blocks": 1, "latent_channels": 2, "mel_bins": 16}

TINY = random_init.override_configs(
    FULL,
    transformer=_TINY_TRANSFORMER,
    vae={
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1,) * 5,
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1,) * 4,
    },
    audio_vae=_TINY_AUDIO,
    connectors={
        "caption_channels": 32,
        "text_proj_in_factor": 3,
        "video_connector_num_attention_heads": 2,
        "video_connector_attention_head_dim": 16,
        "audio_connector_num_attention_heads": 2,
        "audio_connector_attention_head_dim": 16,
    },
    text_encoder=TINY_GEMMA3,
    vocoder={"in_channels": 32, "hidden_channels": 32},
)
"""Video latents keep their 128 channels, 1/32 of the size and 1/8 of the frames; audio latents are narrower."""

TINY_23 = random_init.override_configs(
    FULL_23,
    transformer=_TINY_TRANSFORMER,
    vae={
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1,) * 5,
        "decoder_block_out_channels": (8, 16, 16, 32),
        "decoder_layers_per_block": (1,) * 5,
    },
    audio_vae=_TINY_AUDIO,
    connectors={
        "caption_channels": 32,
        "text_proj_in_factor": 3,
        "video_connector_num_attention_heads": 4,
        "video_connector_attention_head_dim": 16,
        "video_connector_num_layers": 2,
        "audio_connector_num_attention_heads": 4,
        "audio_connector_attention_head_dim": 8,
        "audio_connector_num_layers": 2,
        "video_hidden_dim": 64,
        "audio_hidden_dim": 32,
    },
    text_encoder=TINY_GEMMA3,
    vocoder={
        "in_channels": 32,
        "hidden_channels": 64,
        "bwe_in_channels": 32,
        "bwe_hidden_channels": 32,
        "num_mel_channels": 16,
    },
)
