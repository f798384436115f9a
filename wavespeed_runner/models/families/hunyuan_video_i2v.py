"""HunyuanVideo image-to-video by Tencent, run with diffusers' HunyuanVideoImageToVideoPipeline.

A vision-language model (LLaVA) reads the prompt together with the first frame, so the encode stage needs the image too:
`graph=image_to_video_seen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Init
from ...errors import RunError
from ...registry import register
from ..family import Family, uses_cfg
from ..text.llama import LLAMA3, PAD, TINY_LLAMA, build_template_tokenizer
from ..weights import byte_tokenizer, random_init
from .hunyuan_video import (
    BLOCKS,
    FULL,
    TINY_TRANSFORMER,
    TINY_VAE,
    HunyuanVideoConfig,
    build_arguments,
    decode,
    name_embeddings,
    refuse_long_prompt,
)

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from PIL.Image import Image as PILImage
    from torch import Tensor

FULL_I2V = random_init.override_configs(FULL, transformer={"image_condition_type": "token_replace"}) | {
    "text_encoder": (
        "LlavaForConditionalGeneration",
        {
            "text_config": {"model_type": "llama", **LLAMA3},
            "vision_config": {
                "model_type": "clip_vision_model",
                "hidden_size": 1024,
                "intermediate_size": 4096,
                "num_hidden_layers": 24,
                "num_attention_heads": 16,
                "image_size": 336,
                "patch_size": 14,
                "projection_dim": 768,
            },
            "image_token_index": 128257,
            "pad_token_id": 128258,
        },
    )
}
"""As published: https://huggingface.co/hunyuanvideo-community/HunyuanVideo-I2V."""

TINY_I2V = random_init.override_configs(
    FULL_I2V,
    transformer=TINY_TRANSFORMER,
    vae=TINY_VAE,
    text_encoder={
        "text_config": {"model_type": "llama", **TINY_LLAMA},
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 336,
            "patch_size": 14,
            "projection_dim": 32,
        },
    },
    text_encoder_2=random_init.TINY_CLIP,
)
"""An image stays 576 tokens long, as the pipeline expects."""


@dataclass(kw_only=True)
class HunyuanVideoImageConfig(HunyuanVideoConfig):
    """Options of HunyuanVideo image-to-video."""

    name: str = "hunyuan_video_i2v"


def build_pipeline(model: HunyuanVideoImageConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `HunyuanVideoImageToVideoPipeline` with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPImageProcessorPil

    template = _read_template()
    tokenizer = build_template_tokenizer(template["template"], template["crop_start"])
    specs = FULL_I2V
    if model.init is Init.tiny:
        ids = {"image_token_index": tokenizer.convert_tokens_to_ids("<image>")}
        ids["pad_token_id"] = tokenizer.convert_tokens_to_ids(PAD)
        specs = random_init.override_configs(TINY_I2V, text_encoder=TINY_I2V["text_encoder"][1] | ids)
    return random_init.build_random_pipeline(
        "HunyuanVideoImageToVideoPipeline",
        specs,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        tokenizer=tokenizer,
        tokenizer_2=byte_tokenizer.build_clip_tokenizer(),
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    )


def _read_template() -> dict[str, Any]:
    from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_image2video as pipeline

    template: dict[str, Any] = pipeline.DEFAULT_PROMPT_TEMPLATE
    return template


def check(model: HunyuanVideoImageConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for the first version of the weights: the pipeline drops the first frame of their latents."""
    condition = pipe.transformer.config.image_condition_type
    if condition != "token_replace":
        raise RunError(
            f"model.repo={model.repo}: its image condition is {condition}, and only token_replace is supported; use "
            "hunyuanvideo-community/HunyuanVideo-I2V or weights derived from it"
        )


def encode(
    pipe: DiffusionPipeline,
    model: HunyuanVideoImageConfig,
    sample: Sample,
    guidance_scale: float | None,
    image: PILImage | None = None,
) -> dict[str, Tensor]:
    """Encodes the prompt together with its first frame.

    Returns `prompt_embeds` (1, tokens of the image and the prompt, width of Llama), `prompt_attention_mask` and
    `pooled_prompt_embeds` (1, width of CLIP); with classifier-free guidance also the three `negative_*`.

    Raises:
        RunError: no image is wired to the stage.
    """
    from PIL import Image

    if image is None:
        raise RunError(
            f"model={model.name}: it reads the prompt together with the first frame, so the encode stage needs "
            "inputs.image; use graph=image_to_video_seen"
        )
    # The pipeline pairs the negative prompt with a black image, of which it keeps more tokens.
    prompts = {"": (sample.prompt, image, {"image_embed_interleave": 4})}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = (sample.negative_prompt, Image.new("RGB", image.size), {})
    embeddings: dict[str, Tensor] = {}
    for prefix, (text, frame, options) in prompts.items():
        refuse_long_prompt(pipe, model, text, _read_template())
        encoded = pipe.encode_prompt(frame, text, max_sequence_length=model.max_sequence_length, **options)
        embeddings |= name_embeddings(prefix, *encoded)
    return embeddings


HUNYUAN_VIDEO_I2V = register("model", "hunyuan_video_i2v", HunyuanVideoImageConfig)(
    Family(
        tasks={"image_to_video": "HunyuanVideoImageToVideoPipeline"},
        build=build_pipeline,
        check=check,
        encode=encode,
        build_arguments=build_arguments,
        decode=decode,
        blocks=BLOCKS,
        published_repo=lambda model: "hunyuanvideo-community/HunyuanVideo-I2V",
        kind="video",
        frame_multiple=4,
        decoder_channels=128,
        tiny_size=64,
        supports_batches=False,
    )
)
