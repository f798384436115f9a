"""Chroma1, run with diffusers' ChromaPipeline: FLUX.1-schnell retrained for classifier-free guidance, with T5 alone.

https://huggingface.co/lodestones/Chroma1-HD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...registry import register
from ..block_layouts import text_first
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..pipeline_call import decode_scaled_latents
from ..text.prompt_length import allow_length, refuse_truncation
from ..weights import byte_tokenizer, random_init
from .flux import TINY_VAE, VAE, unpack_latents

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

FULL: random_init.ComponentSpecs = {
    "transformer": (
        "ChromaTransformer2DModel",
        {
            "patch_size": 1,
            "in_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "axes_dims_rope": (16, 56, 56),
            "approximator_num_channels": 64,
            "approximator_hidden_dim": 5120,
            "approximator_layers": 5,
        },
    ),
    "vae": ("AutoencoderKL", VAE),
    "text_encoder": random_init.t5_encoder(4096, ff=10240, layers=24, heads=64),
}
"""Chroma1-HD as published in its config.json files. Its autoencoder is that of FLUX.1."""

TINY = random_init.override_configs(
    FULL,
    transformer={
        "num_layers": 2,
        "num_single_layers": 4,
        "attention_head_dim": 16,
        "num_attention_heads": 4,
        "joint_attention_dim": 32,
        "axes_dims_rope": (4, 6, 6),
        "approximator_hidden_dim": 64,
        "approximator_layers": 2,
    },
    vae=TINY_VAE,
    text_encoder=random_init.TINY_T5,
)
"""Every component, each with few and narrow layers."""


@dataclass(kw_only=True)
class ChromaConfig(ModelConfig):
    """Options of Chroma1."""

    name: str = "chroma"
    max_sequence_length: int = 512
    """Tokens of the T5 encoder, at most 512. Shorter prompts are padded to it, and all padding but the first token is
    masked."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 512)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: ChromaConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `ChromaPipeline` with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return random_init.build_random_pipeline(
        "ChromaPipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        tokenizer=byte_tokenizer.build_t5_tokenizer(512),
    )


def encode(
    pipe: DiffusionPipeline, model: ChromaConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of T5) and `prompt_attention_mask` (1, max_sequence_length); with
    classifier-free guidance also the two `negative_*` of the same shapes.
    """
    guided = uses_cfg(model, guidance_scale)
    for text in (sample.prompt, sample.negative_prompt) if guided else (sample.prompt,):
        expanded = pipe.maybe_convert_prompt(text, pipe.tokenizer)
        refuse_truncation(model, pipe.tokenizer, expanded, model.max_sequence_length, "model.max_sequence_length")
    embeds, _, mask, negative, _, negative_mask = pipe.encode_prompt(
        sample.prompt,
        sample.negative_prompt,
        do_classifier_free_guidance=guided,
        max_sequence_length=model.max_sequence_length,
    )
    embeddings = {"prompt_embeds": embeds, "prompt_attention_mask": mask}
    if guided:
        embeddings |= {"negative_prompt_embeds": negative, "negative_prompt_attention_mask": negative_mask}
    return embeddings


def prepare(pipe: DiffusionPipeline, inputs: CallInputs) -> None:
    """Works around two bugs of diffusers 0.42.1 that make the call fail.

    Inpainting reads `guidance_embeds` from the transformer's config, which Chroma's lacks. Image-to-image does not
    recognise latents as latents.
    """
    if inputs.task == "inpaint":
        pipe.transformer.register_to_config(guidance_embeds=False)
    elif inputs.task == "image_to_image":
        pipe.image_processor.register_to_config(vae_latent_channels=pipe.vae.config.latent_channels)


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int | None = None
) -> np.ndarray:
    """Decodes packed latents, laid out as FLUX.1 packs them: uint8 (n, height, width, 3)."""
    return decode_scaled_latents(pipe, unpack_latents(pipe, latents["latents"], width=width, height=height))


def get_published_repo(model: ChromaConfig) -> str:
    """Hub id of the components that a single-file checkpoint lacks."""
    return "lodestones/Chroma1-HD"


def modulated_input(block: Any, streams: dict[str, Tensor], arguments: dict[str, Any]) -> Tensor:
    """Signal of TeaCache: image tokens as the attention of the first block receives them, (n, tokens, channels)."""
    # temb holds six vectors for the image, then six for the prompt.
    return block.norm1(streams["hidden_states"], emb=arguments["temb"][:, :6])[0]


BLOCKS = Blocks(
    lists=(
        text_first("transformer_blocks"),
        BlockList(name="single_transformer_blocks", concatenated=("encoder_hidden_states", "hidden_states")),
    ),
    modulated_input=modulated_input,
    # The denoiser selects a block's modulation by counting the blocks before it.
    supports_tail_blocks=False,
)

CHROMA = register("model", "chroma", ChromaConfig)(
    Family(
        tasks={
            "text_to_image": "ChromaPipeline",
            "image_to_image": "ChromaImg2ImgPipeline",
            "inpaint": "ChromaInpaintPipeline",
        },
        build=build_pipeline,
        prepare=prepare,
        encode=encode,
        unpack_latents=unpack_latents,
        decode=decode,
        published_repo=get_published_repo,
        tiny_size=64,
        adapters=("lora", "textual_inversion"),
        schedule="flow",
        blocks=BLOCKS,
    )
)
