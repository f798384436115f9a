"""CogVideoX, by way of diffusers' CogVideoXPipeline and CogVideoXImageToVideoPipeline.

Paper: https://arxiv.org/abs/2408.06072
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, ClassVar

from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..block_layouts import image_first
from ..family import Blocks, Family, allow_guidance, two_passes
from ..pipeline_call import clips
from ..text.prompt_length import refuse_cut
from ..weights import random_init


class CogVideoXVariant(Enum):
    """A published checkpoint."""

    t2v_2b = "t2v_2b"
    t2v_5b = "t2v_5b"
    i2v_5b = "i2v_5b"


TOKENS = 226
"""Of a prompt, padded to it: the positions that the transformer knows."""

FULL: random_init.Parts = {
    "transformer": (
        "CogVideoXTransformer3DModel",
        {
            "num_attention_heads": 48,
            "attention_head_dim": 64,
            "in_channels": 16,
            "out_channels": 16,
            "time_embed_dim": 512,
            "text_embed_dim": 4096,
            "num_layers": 42,
            "sample_width": 90,
            "sample_height": 60,
            "sample_frames": 49,
            "patch_size": 2,
            "max_text_seq_length": TOKENS,
            "use_rotary_positional_embeddings": True,
        },
    ),
    "vae": (
        "AutoencoderKLCogVideoX",
        {
            "block_out_channels": (128, 256, 256, 512),
            "layers_per_block": 3,
            "latent_channels": 16,
            "norm_num_groups": 32,
            "sample_height": 480,
            "sample_width": 720,
            "scaling_factor": 0.7,
        },
    ),
    "text_encoder": random_init.t5(4096, ff=10240, layers=24, heads=64),
}
"""CogVideoX-5b as published: the config.json files of https://huggingface.co/THUDM/CogVideoX-5b."""

TINY = random_init.shrunk(
    FULL,
    transformer={
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "time_embed_dim": 32,
        "text_embed_dim": 32,
        "num_layers": 2,
        "sample_width": 8,
        "sample_height": 8,
        "sample_frames": 9,
    },
    vae={
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "sample_height": 64,
        "sample_width": 64,
    },
    text_encoder=random_init.TINY_T5,
)
"""Every part kept, each with few and narrow layers. Latents keep their 16 channels, 1/8 of the size, 1/4 of the frames.
Four heads: sequences can still be split over up to 4 devices."""

POSITIONS: dict[CogVideoXVariant, dict[str, Any]] = {
    CogVideoXVariant.t2v_2b: {"use_rotary_positional_embeddings": False},
    CogVideoXVariant.t2v_5b: {},
    CogVideoXVariant.i2v_5b: {"in_channels": 32, "use_learned_positional_embeddings": True},
}
"""What of the transformer differs beside its size."""


@dataclass(kw_only=True)
class CogVideoXConfig(ModelConfig):
    name: str = "cogvideox"
    variant: CogVideoXVariant = CogVideoXVariant.t2v_5b
    """The published checkpoint that `repo` is, or is made from: what `init=random` and `init=tiny` are built like."""
    max_sequence_length: ClassVar[int] = TOKENS
    variants: ClassVar[tuple[CogVideoXVariant, ...]] = (CogVideoXVariant.t2v_2b, CogVideoXVariant.t2v_5b)

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        if self.variant not in self.variants:
            names = ", ".join(variant.value for variant in self.variants)
            raise ConfigError(f"model.variant={self.variant.value}: model.name={self.name} has {names}")


@dataclass(kw_only=True)
class CogVideoXI2VConfig(CogVideoXConfig):
    name: str = "cogvideox_i2v"
    variant: CogVideoXVariant = CogVideoXVariant.i2v_5b
    variants: ClassVar[tuple[CogVideoXVariant, ...]] = (CogVideoXVariant.i2v_5b,)


def build_pipeline(model: CogVideoXConfig, dtype: Any, device: Any) -> Any:
    """A pipeline of random weights. 2b has its own scheduler, shift and scale of latents."""
    import diffusers

    small, tiny = model.variant is CogVideoXVariant.t2v_2b, model.init is Init.tiny
    size: dict[str, Any] = {"num_attention_heads": 30, "num_layers": 30} if small and not tiny else {}
    kind = "CogVideoXDDIMScheduler" if small else "CogVideoXDPMScheduler"
    return random_init.assemble(
        "CogVideoXImageToVideoPipeline" if model.variant is CogVideoXVariant.i2v_5b else "CogVideoXPipeline",
        random_init.shrunk(
            TINY if tiny else FULL,
            transformer=POSITIONS[model.variant] | size,
            vae={"scaling_factor": 1.15258426} if small else {},
        ),
        dtype=dtype,
        device=device,
        scheduler=getattr(diffusers, kind)(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=3.0 if small else 1.0,
            timestep_spacing="trailing",
        ),
        tokenizer=random_init.t5_tokenizer(TOKENS),
    )


def check(model: CogVideoXConfig, pipe: Any) -> None:
    """Raises `RunError` for weights that start from an image where a text is all there is, and the other way round."""
    takes_image = pipe.transformer.config.in_channels == 2 * pipe.vae.config.latent_channels
    if takes_image != isinstance(model, CogVideoXI2VConfig):
        fit = "cogvideox_i2v" if takes_image else "cogvideox or cogvideox_2b"
        raise RunError(f"model.repo={model.repo}: does not fit model.name={model.name}, take model={fit}")


def encode(pipe: Any, model: CogVideoXConfig, sample: Any, guidance_scale: float | None) -> dict[str, Any]:
    """`prompt_embeds` (1, 226, width of T5); with classifier-free guidance `negative_prompt_embeds` too."""
    guided = two_passes(model, guidance_scale)
    for text in (sample.prompt, *([sample.negative_prompt] if guided else [])):
        refuse_cut(model, pipe.tokenizer, text, TOKENS, "the limit")
    embeds, negative = pipe.encode_prompt(sample.prompt, sample.negative_prompt, guided, max_sequence_length=TOKENS)
    return {"prompt_embeds": embeds} | ({"negative_prompt_embeds": negative} if guided else {})


def decode(pipe: Any, latents: dict[str, Any], *, width: int, height: int, num_frames: int) -> Any:
    """Latents (n, (frames - 1) / 4 + 1, 16, height / 8, width / 8) -> numpy uint8 (n, frames, height, width, 3).

    CogVideoX 1.5 makes pairs of latent frames: where one was added in front for that, it is dropped, as the pipeline
    does when it decodes by itself.
    """
    frames = (num_frames - 1) // pipe.vae_scale_factor_temporal + 1
    return clips(pipe, pipe.decode_latents(latents["latents"][:, -frames:]))


def own_sampler(model: CogVideoXConfig) -> str:
    """2b was published with DDIM."""
    return "ddim" if model.variant is CogVideoXVariant.t2v_2b else "cogvideox_dpm"


def time_embedding(block: Any, streams: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """What TeaCache watches: the embedded timestep, (n, channels)."""
    return arguments["temb"]


COMMON: dict[str, Any] = {
    "build": build_pipeline,
    "check": check,
    "encode": encode,
    "decode": decode,
    "blocks": Blocks(lists=(image_first("transformer_blocks"),), modulated=time_embedding),
    "kind": "video",
    # The autoencoder takes a latent frame more than pairs of them.
    "frame_multiple": 8,
    "tiny_size": 64,
    "tiny_frames": 9,
    "schedule": "cogvideox",
    "own_sampler": own_sampler,
}

COGVIDEOX = register("model", "cogvideox", CogVideoXConfig)(
    Family(tasks={"text_to_video": "CogVideoXPipeline"}, **COMMON)
)
COGVIDEOX_I2V = register("model", "cogvideox_i2v", CogVideoXI2VConfig)(
    Family(tasks={"image_to_video": "CogVideoXImageToVideoPipeline"}, fixed_size=(720, 480), **COMMON)
)
