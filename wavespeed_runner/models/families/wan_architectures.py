"""Published and tiny shapes of Wan 2.1 and 2.2, their noise schedules and repositories. Data only.

Sources: the config.json files of the repositories named here, and diffusers' scripts/convert_wan_to_diffusers.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..weights import random_init


class WanVariant(Enum):
    """A published checkpoint."""

    t2v_1_3b = "t2v_1_3b"
    t2v_14b = "t2v_14b"
    i2v_480p = "i2v_480p"
    i2v_720p = "i2v_720p"
    t2v_a14b = "t2v_a14b"
    i2v_a14b = "i2v_a14b"
    ti2v_5b = "ti2v_5b"


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Shapes, schedule and repository of one variant."""

    repo: str
    full: random_init.ComponentSpecs
    tiny: random_init.ComponentSpecs
    """Every component, each with few and narrow layers. Latents keep their channels and their share of width, height
    and frames, so sizes, token counts and stored latents mean the same. With four heads, sequences can still be split
    over up to 4 devices."""
    flow_shift: float = 3.0
    options: dict[str, Any] = field(default_factory=dict)
    """Arguments of the pipeline class other than its components."""

    @property
    def channels(self) -> int:
        """Input channels of the transformer: the latents, and for image-to-video a mask and the image's latents."""
        return int(self.full["transformer"][1]["in_channels"])


def _transformer(*, heads: int, ffn: int, layers: int, channels: int = 16, **more: Any) -> tuple[str, dict[str, Any]]:
    config: dict[str, Any] = {
        "patch_size": (1, 2, 2),
        "num_attention_heads": heads,
        "attention_head_dim": 128,
        "in_channels": channels,
        "out_channels": 16,
        "text_dim": 4096,
        "freq_dim": 256,
        "ffn_dim": ffn,
        "num_layers": layers,
        "cross_attn_norm": True,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
    }
    return "WanTransformer3DModel", config | more


_14B = {"heads": 40, "ffn": 13824, "layers": 40}
_PARTS: random_init.ComponentSpecs = {
    "vae": ("AutoencoderKLWan", {"base_dim": 96, "z_dim": 16, "num_res_blocks": 2}),
    "text_encoder": random_init.t5_encoder(
        4096, ff=10240, layers=24, heads=64, class_name="UMT5EncoderModel", vocab_size=256384
    ),
}
_IMAGE_ENCODER: random_init.ComponentSpecs = {
    # CLIP ViT-H/14: 257 tokens of 1280.
    "image_encoder": (
        "CLIPVisionModel",
        {
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 16,
            "patch_size": 14,
            "image_size": 224,
            "hidden_act": "gelu",
            "projection_dim": 1024,
        },
    )
}
_MEAN_48 = (
    *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891),
    *(0.1570, -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502),
    *(-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723),
    *(-0.2839, -0.2083, -0.0520, 0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
)
_STD_48 = (
    *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901),
    *(0.6885, 0.6165, 0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659),
    *(0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944),
    *(0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
)
_VAE_22: random_init.ComponentSpecs = {
    "vae": (
        "AutoencoderKLWan",
        {
            "base_dim": 160,
            "decoder_base_dim": 256,
            "z_dim": 48,
            "num_res_blocks": 2,
            "is_residual": True,
            "in_channels": 12,
            "out_channels": 12,
            "patch_size": 2,
            "scale_factor_temporal": 4,
            "scale_factor_spatial": 16,
            "latents_mean": _MEAN_48,
            "latents_std": _STD_48,
        },
    )
}

_TINY_TRANSFORMER = {
    "num_attention_heads": 4,
    "attention_head_dim": 12,
    "text_dim": 32,
    "freq_dim": 32,
    "ffn_dim": 64,
    "num_layers": 2,
}
_TINY: dict[str, dict[str, Any]] = {
    "transformer": _TINY_TRANSFORMER,
    "transformer_2": _TINY_TRANSFORMER,
    "vae": {"base_dim": 8, "num_res_blocks": 1},
    "text_encoder": random_init.TINY_T5,
    "image_encoder": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "projection_dim": 32,
    },
}


def _shapes(
    repo: str, full: random_init.ComponentSpecs, tiny: dict[str, dict[str, Any]] | None = None, **more: Any
) -> Shapes:
    return Shapes(
        repo=f"Wan-AI/{repo}-Diffusers",
        full=full,
        tiny=random_init.override_configs(full, **_TINY | (tiny or {})),
        **more,
    )


_I2V = {"transformer": _transformer(**_14B, channels=36, image_dim=1280, added_kv_proj_dim=5120)}
_TINY_I2V = {"transformer": _TINY_TRANSFORMER | {"image_dim": 32, "added_kv_proj_dim": 48}}


def _two(channels: int) -> random_init.ComponentSpecs:
    """Specs of the transformers for high and for low noise."""
    return {name: _transformer(**_14B, channels=channels) for name in ("transformer", "transformer_2")}


VARIANTS: dict[WanVariant, Shapes] = {
    WanVariant.t2v_1_3b: _shapes(
        "Wan2.1-T2V-1.3B", {"transformer": _transformer(heads=12, ffn=8960, layers=30), **_PARTS}
    ),
    WanVariant.t2v_14b: _shapes("Wan2.1-T2V-14B", {"transformer": _transformer(**_14B), **_PARTS}),
    WanVariant.i2v_480p: _shapes("Wan2.1-I2V-14B-480P", _I2V | _PARTS | _IMAGE_ENCODER, _TINY_I2V),
    WanVariant.i2v_720p: _shapes("Wan2.1-I2V-14B-720P", _I2V | _PARTS | _IMAGE_ENCODER, _TINY_I2V, flow_shift=5.0),
    WanVariant.t2v_a14b: _shapes("Wan2.2-T2V-A14B", _two(16) | _PARTS, options={"boundary_ratio": 0.875}),
    WanVariant.i2v_a14b: _shapes("Wan2.2-I2V-A14B", _two(36) | _PARTS, options={"boundary_ratio": 0.9}),
    WanVariant.ti2v_5b: _shapes(
        "Wan2.2-TI2V-5B",
        {"transformer": _transformer(heads=24, ffn=14336, layers=30, channels=48, out_channels=48), **_PARTS} | _VAE_22,
        {"vae": {"base_dim": 8, "decoder_base_dim": 8, "num_res_blocks": 1}},
        flow_shift=5.0,
        options={"expand_timesteps": True},
    ),
}
