"""CogVideoX, run with diffusers' CogVideoXPipeline and CogVideoXImageToVideoPipeline.

Paper: https://arxiv.org/abs/2408.06072
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..block_layouts import image_first
from ..family import Blocks, CallInputs, Family, allow_guidance, build_plain_arguments, uses_cfg
from ..pipeline_call import to_uint8_videos
from ..text.prompt_length import refuse_truncation
from ..weights import byte_tokenizer, random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


class CogVideoXVariant(Enum):
    """A published checkpoint."""

    t2v_2b = "t2v_2b"
    t2v_5b = "t2v_5b"
    i2v_5b = "i2v_5b"


TOKENS = 226
"""Prompt tokens; prompts are padded to it, because the transformer has positions for exactly that many."""

FULL: random_init.ComponentSpecs = {
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
    "text_encoder": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
}
"""CogVideoX-5b as published in the config.json files of https://huggingface.co/THUDM/CogVideoX-5b."""

TINY = random_init.override_configs(
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
"""Every component, each with few and narrow layers. Latents keep their 16 channels, 1/8 of the size and 1/4 of the
frames. With four heads, sequences can still be split over up to 4 devices."""

POSITIONS: dict[CogVideoXVariant, dict[str, Any]] = {
    CogVideoXVariant.t2v_2b: {"use_rotary_positional_embeddings": False},
    CogVideoXVariant.t2v_5b: {},
    CogVideoXVariant.i2v_5b: {"in_channels": 32, "use_learned_positional_embeddings": True},
}
"""Transformer options in which the variants differ, apart from its size."""


@dataclass(kw_only=True)
class CogVideoXConfig(ModelConfig):
    """Options of CogVideoX text-to-video."""

    name: str = "cogvideox"
    variant: CogVideoXVariant = CogVideoXVariant.t2v_5b
    """The published checkpoint that `repo` is or derives from. `init=random` and `init=tiny` build its architecture."""
    use_dynamic_cfg: bool = False
    """The scale of the guidance changes from step to step, between 1 and 1 + `guidance_scale`, as the makers run the
    DPM solver. diffusers takes the cosine of the timestep, not of the step's number, so the scale jumps. Without
    guidance it has no effect."""
    max_sequence_length: ClassVar[int] = TOKENS
    variants: ClassVar[tuple[CogVideoXVariant, ...]] = (CogVideoXVariant.t2v_2b, CogVideoXVariant.t2v_5b)

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        if self.variant not in self.variants:
            names = ", ".join(variant.value for variant in self.variants)
            raise ConfigError(f"model.variant={self.variant.value}: model.name={self.name} has {names}")


@dataclass(kw_only=True)
class CogVideoXI2VConfig(CogVideoXConfig):
    """Options of CogVideoX image-to-video."""

    name: str = "cogvideox_i2v"
    variant: CogVideoXVariant = CogVideoXVariant.i2v_5b
    variants: ClassVar[tuple[CogVideoXVariant, ...]] = (CogVideoXVariant.i2v_5b,)


def build_pipeline(model: CogVideoXConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a pipeline with random weights. The 2b model has its own scheduler, shift and latent scale."""
    import diffusers

    small, tiny = model.variant is CogVideoXVariant.t2v_2b, model.init is Init.tiny
    size: dict[str, Any] = {"num_attention_heads": 30, "num_layers": 30} if small and not tiny else {}
    scheduler = "CogVideoXDDIMScheduler" if small else "CogVideoXDPMScheduler"
    return random_init.build_random_pipeline(
        "CogVideoXImageToVideoPipeline" if model.variant is CogVideoXVariant.i2v_5b else "CogVideoXPipeline",
        random_init.override_configs(
            TINY if tiny else FULL,
            transformer=POSITIONS[model.variant] | size,
            vae={"scaling_factor": 1.15258426} if small else {},
        ),
        dtype=dtype,
        device=device,
        scheduler=getattr(diffusers, scheduler)(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            snr_shift_scale=3.0 if small else 1.0,
            timestep_spacing="trailing",
        ),
        tokenizer=byte_tokenizer.build_t5_tokenizer(TOKENS),
    )


def check(model: CogVideoXConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for image-to-video weights in the text-to-video family, and the other way round."""
    takes_image = pipe.transformer.config.in_channels == 2 * pipe.vae.config.latent_channels
    if takes_image != isinstance(model, CogVideoXI2VConfig):
        option = "cogvideox_i2v" if takes_image else "cogvideox or cogvideox_2b"
        raise RunError(f"model.repo={model.repo}: does not fit model.name={model.name}; use model={option}")


def encode(
    pipe: DiffusionPipeline, model: CogVideoXConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt: `prompt_embeds` (1, 226, width of T5); with guidance also `negative_prompt_embeds`."""
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, *([sample.negative_prompt] if guided else [])):
        refuse_truncation(model, pipe.tokenizer, text, TOKENS, "the limit")
    embeds, negative = pipe.encode_prompt(sample.prompt, sample.negative_prompt, guided, max_sequence_length=TOKENS)
    return {"prompt_embeds": embeds} | ({"negative_prompt_embeds": negative} if guided else {})


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Decodes latents (n, (frames - 1) / 4 + 1, 16, height / 8, width / 8): uint8 (n, frames, height, width, 3).

    CogVideoX 1.5 generates latent frames in pairs. A frame that was added in front to complete a pair is dropped, as
    the pipeline does when it decodes.
    """
    frames = (num_frames - 1) // pipe.vae_scale_factor_temporal + 1
    return to_uint8_videos(pipe, pipe.decode_latents(latents["latents"][:, -frames:]))


def build_arguments(model: CogVideoXConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings, guidance, and whether its scale changes from step to step."""
    return build_plain_arguments(model, embeddings, inputs) | {"use_dynamic_cfg": model.use_dynamic_cfg}


def get_own_sampler(model: CogVideoXConfig) -> str:
    """Name of the published sampler: DDIM for the 2b model, the others have a DPM solver."""
    return "ddim" if model.variant is CogVideoXVariant.t2v_2b else "cogvideox_dpm"


def find_float16_report(model: CogVideoXConfig) -> str:
    """The 2b model was trained in float16, the others in bfloat16."""
    return "" if model.variant is CogVideoXVariant.t2v_2b else "https://github.com/zai-org/CogVideo/issues/637"


def time_embedding(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: the embedded timestep, (n, channels)."""
    return arguments["temb"]


COMMON: dict[str, Any] = {
    "build": build_pipeline,
    "check": check,
    "encode": encode,
    "build_arguments": build_arguments,
    "decode": decode,
    "blocks": Blocks(lists=(image_first("transformer_blocks"),), modulated_input=time_embedding),
    "kind": "video",
    # One latent frame stands for 4 frames; the autoencoder decodes them in pairs, plus the first one.
    "frame_multiple": 8,
    "tiny_size": 64,
    "tiny_frames": 9,
    "schedule": "cogvideox",
    "why_not_float16": find_float16_report,
    "own_sampler": get_own_sampler,
}

COGVIDEOX = register("model", "cogvideox", CogVideoXConfig)(
    Family(tasks={"text_to_video": "CogVideoXPipeline"}, **COMMON)
)
COGVIDEOX_I2V = register("model", "cogvideox_i2v", CogVideoXI2VConfig)(
    Family(tasks={"image_to_video": "CogVideoXImageToVideoPipeline"}, fixed_size=(720, 480), **COMMON)
)
