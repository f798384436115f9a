"""HunyuanVideo 1.5 by Tencent, https://arxiv.org/abs/2511.18870, by way of diffusers' HunyuanVideo15Pipeline; and its
image-to-video weights, by way of HunyuanVideo15ImageToVideoPipeline.

Guidance is an object of the pipeline, not an argument of its call: `prepare` sets it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import RunError
from ...registry import register
from ..block_layouts import image_first, modulate_with_norm1
from ..family import Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..pipeline_call import to_uint8_videos
from ..text.encoders import QWEN2_5_VL, TINY_QWEN2_5_VL, build_chat_tokenizer
from ..text.prompt_length import refuse_truncation
from ..weights import random_init

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

READ = 1000
"""Tokens of the prompt that are read, behind those of the template; fixed in the pipeline."""

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

EYE: random_init.ComponentSpecs = {
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
"""What image-to-video reads its first frame with, as published in FLUX.1-Redux-dev."""

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
TINY_EYE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
"""Latents keep their 32 channels, 1/16 of the size and 1/4 of the frames; an image is still 729 tokens."""


@dataclass(kw_only=True)
class HunyuanVideo15Config(ModelConfig):
    name: str = "hunyuan_video15"

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


@dataclass(kw_only=True)
class HunyuanVideo15ImageConfig(HunyuanVideo15Config):
    name: str = "hunyuan_video15_i2v"


def _build(
    model: HunyuanVideo15Config,
    dtype: torch.dtype,
    device: torch.device | str,
    kind: str,
    parts: random_init.ComponentSpecs,
    **others: Any,
) -> DiffusionPipeline:
    from diffusers import ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler
    from transformers import ByT5Tokenizer

    if model.init is Init.tiny:
        text = {**TINY_QWEN2_5_VL["text_config"], "num_hidden_layers": 4}  # the output of the last two is not read
        changes = {
            "transformer": TINY_TRANSFORMER,
            "vae": {"block_out_channels": (16, 16, 32, 64, 64), "layers_per_block": 1},
            "text_encoder": text,
            "text_encoder_2": random_init.TINY_T5 | {"vocab_size": 384},
            "image_encoder": TINY_EYE,
        }
        parts = random_init.override_configs(parts, **changes)
    return random_init.build_random_pipeline(
        kind,
        parts,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        guider=ClassifierFreeGuidance(guidance_scale=model.guidance_scale or 1.0),
        tokenizer=build_chat_tokenizer(4096),
        tokenizer_2=ByT5Tokenizer(),
        **others,
    )


def build_pipeline(model: HunyuanVideo15Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """A `HunyuanVideo15Pipeline` of random weights."""
    return _build(model, dtype, device, "HunyuanVideo15Pipeline", FULL)


def build_image_pipeline(
    model: HunyuanVideo15ImageConfig, dtype: torch.dtype, device: torch.device | str
) -> DiffusionPipeline:
    """A `HunyuanVideo15ImageToVideoPipeline` of random weights."""
    from transformers import SiglipImageProcessorPil

    parts = {**random_init.override_configs(FULL, transformer={"task_type": "i2v"}), **EYE}
    eye = SiglipImageProcessorPil(size={"height": 384, "width": 384})
    return _build(model, dtype, device, "HunyuanVideo15ImageToVideoPipeline", parts, feature_extractor=eye)


def encode(
    pipe: DiffusionPipeline, model: HunyuanVideo15Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Of Qwen2.5-VL `prompt_embeds` (1, 1000, width) and `prompt_embeds_mask` (1, 1000); of ByT5, which reads only what
    the prompt has in quotation marks, `prompt_embeds_2` (1, 256, width) and `prompt_embeds_mask_2`; with
    classifier-free guidance also the four `negative_*`."""
    from diffusers.pipelines.hunyuan_video1_5.pipeline_hunyuan_video1_5 import format_text_input

    prompts = {"": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    names = ("prompt_embeds", "prompt_embeds_mask", "prompt_embeds_2", "prompt_embeds_mask_2")
    embeddings: dict[str, Tensor] = {}
    for prefix, text in prompts.items():
        chat = format_text_input([text], pipe.system_message)
        ids = pipe.tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
        tokens = len(ids["input_ids"][0]) - pipe.prompt_template_encode_start_idx
        refuse_truncation(model, pipe.tokenizer, text, READ, "the pipeline's limit", tokens=tokens)
        made = pipe.encode_prompt(text, dtype=pipe.transformer.dtype)
        embeddings |= {prefix + name: tensor for name, tensor in zip(names, made, strict=True)}
    return embeddings


def build_arguments(model: HunyuanVideo15Config, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """The embeddings; guidance is set by `prepare`."""
    return embeddings


def prepare(pipe: DiffusionPipeline, inputs: CallInputs) -> None:
    """Sets the guidance. A first frame's size must be one that the pipeline keeps.

    Raises:
        RunError: the pipeline would make a video of another size.
    """
    pipe.guider = pipe.guider.new(guidance_scale=inputs.guidance_scale or 1.0)
    if inputs.image is None:
        return
    image = inputs.image[0] if isinstance(inputs.image, list) else inputs.image
    height, width = pipe.video_processor.calculate_default_height_width(
        height=image.height, width=image.width, target_size=pipe.target_size
    )
    if (inputs.width, inputs.height) != (width, height):
        raise RunError(
            f"width={inputs.width} height={inputs.height}: for this image the model makes its own size, give "
            f"width={width} height={height}"
        )


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Videos from latents (n, 32, 1 + frames / 4, height / 16, width / 16): numpy uint8 (n, num_frames, height, width,
    3)."""
    scaled = latents["latents"].to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
    return to_uint8_videos(pipe, pipe.vae.decode(scaled, return_dict=False)[0])


BLOCKS = Blocks(lists=(image_first("transformer_blocks"),), modulated_input=modulate_with_norm1)
REPOSITORY = "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p"

HUNYUAN_VIDEO15 = register("model", "hunyuan_video15", HunyuanVideo15Config)(
    Family(
        tasks={"text_to_video": "HunyuanVideo15Pipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        prepare=prepare,
        decode=decode,
        published_repo=lambda model: f"{REPOSITORY}_t2v",
        blocks=BLOCKS,
        kind="video",
        frame_multiple=4,
        tiny_size=64,
        adapters=(),
    )
)

HUNYUAN_VIDEO15_I2V = register("model", "hunyuan_video15_i2v", HunyuanVideo15ImageConfig)(
    Family(
        tasks={"image_to_video": "HunyuanVideo15ImageToVideoPipeline"},
        build=build_image_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        prepare=prepare,
        decode=decode,
        published_repo=lambda model: f"{REPOSITORY}_i2v",
        blocks=BLOCKS,
        kind="video",
        frame_multiple=4,
        tiny_size=64,
        adapters=(),
        supports_batches=False,
    )
)
