"""Chroma1: FLUX.1-schnell remade with classifier-free guidance and T5 alone, by way of diffusers' ChromaPipeline.

https://huggingface.co/lodestones/Chroma1-HD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config.schema import Guidance, Init, ModelConfig
from ...registry import register
from ..block_layouts import text_first
from ..family import BlockList, Blocks, Family, Wanted, allow_guidance, two_passes
from ..pipeline_call import scaled_images
from ..text.prompt_length import allow_length, refuse_cut
from ..weights import random_init
from .flux import TINY_VAE, VAE, unpacked

FULL: random_init.Parts = {
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
    "text_encoder": random_init.t5(4096, ff=10240, layers=24, heads=64),
}
"""Chroma1-HD as published: its config.json files. Its autoencoder is FLUX's."""

TINY = random_init.shrunk(
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
"""Every part kept, each with few and narrow layers."""


@dataclass(kw_only=True)
class ChromaConfig(ModelConfig):
    name: str = "chroma"
    max_sequence_length: int = 512
    """Tokens of the T5 encoder, at most 512; shorter prompts are padded to it, and all but the first of the padding is
    masked."""

    def __post_init__(self) -> None:
        allow_length(self.max_sequence_length, 512)
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


def build_pipeline(model: ChromaConfig, dtype: Any, device: Any) -> Any:
    """A `ChromaPipeline` of random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return random_init.assemble(
        "ChromaPipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        tokenizer=random_init.t5_tokenizer(512),
    )


def encode(pipe: Any, model: ChromaConfig, sample: Any, guidance_scale: float | None) -> dict[str, Any]:
    """The prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of T5) and `prompt_attention_mask` (1, max_sequence_length); with
    classifier-free guidance also the two `negative_*` of the same shapes.
    """
    guided = two_passes(model, guidance_scale)
    for text in (sample.prompt, sample.negative_prompt) if guided else (sample.prompt,):
        whole = pipe.maybe_convert_prompt(text, pipe.tokenizer)
        refuse_cut(model, pipe.tokenizer, whole, model.max_sequence_length, "model.max_sequence_length")
    embeds, _, mask, negative, _, negative_mask = pipe.encode_prompt(
        sample.prompt,
        sample.negative_prompt,
        do_classifier_free_guidance=guided,
        max_sequence_length=model.max_sequence_length,
    )
    arguments = {"prompt_embeds": embeds, "prompt_attention_mask": mask}
    if guided:
        arguments |= {"negative_prompt_embeds": negative, "negative_prompt_attention_mask": negative_mask}
    return arguments


def prepare(pipe: Any, wanted: Wanted) -> None:
    """Two oversights of diffusers 0.42.1, without which the call fails: inpainting asks the transformer whether it
    takes guidance as an input, a key that Chroma's has not; image-to-image does not know latents when it sees them."""
    if wanted.task == "inpaint":
        pipe.transformer.register_to_config(guidance_embeds=False)
    elif wanted.task == "image_to_image":
        pipe.image_processor.register_to_config(vae_latent_channels=pipe.vae.config.latent_channels)


def decode(pipe: Any, latents: dict[str, Any], *, width: int, height: int, num_frames: int | None = None) -> Any:
    """Images from packed latents, as FLUX's: numpy uint8 (n, height, width, 3)."""
    return scaled_images(pipe, unpacked(pipe, latents["latents"], width=width, height=height))


def published(model: ChromaConfig) -> str:
    """Where the parts come from that a single file lacks."""
    return "lodestones/Chroma1-HD"


def modulated_input(block: Any, streams: dict[str, Any], arguments: dict[str, Any]) -> Any:
    """What TeaCache watches: image tokens as the first block's attention gets them, (n, tokens, channels)."""
    # Six vectors for the image, then six for the prompt.
    return block.norm1(streams["hidden_states"], emb=arguments["temb"][:, :6])[0]


BLOCKS = Blocks(
    lists=(
        text_first("transformer_blocks"),
        BlockList(name="single_transformer_blocks", joined=("encoder_hidden_states", "hidden_states")),
    ),
    modulated=modulated_input,
    # A block's modulation is found by how many ran before it.
    tail=False,
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
        unpacked=unpacked,
        decode=decode,
        published=published,
        tiny_size=64,
        adapters=("lora", "textual_inversion"),
        schedule="flow",
        blocks=BLOCKS,
    )
)
