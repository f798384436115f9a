"""HunyuanVideo's image-to-video weights, by way of diffusers' HunyuanVideoImageToVideoPipeline.

The prompt is read together with the first frame, by a language model that sees (LLaVA), so the encode stage takes the
image too: `graph=image_to_video_seen`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...config.schema import Init
from ...errors import RunError
from ...registry import register
from ..family import Family, two_passes
from ..text.llama import LLAMA3, PAD, TINY_LLAMA, template_tokenizer
from ..weights import random_init
from .hunyuan_video import (
    BLOCKS,
    FULL,
    TINY_TRANSFORMER,
    TINY_VAE,
    HunyuanVideoConfig,
    arguments,
    decode,
    named,
    refuse_long,
)

FULL_I2V = random_init.shrunk(FULL, transformer={"image_condition_type": "token_replace"}) | {
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

TINY_I2V = random_init.shrunk(
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
"""An image is still 576 tokens: the pipeline counts on it."""


@dataclass(kw_only=True)
class HunyuanVideoImageConfig(HunyuanVideoConfig):
    name: str = "hunyuan_video_i2v"


def build_pipeline(model: HunyuanVideoImageConfig, dtype: Any, device: Any) -> Any:
    """A `HunyuanVideoImageToVideoPipeline` of random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler
    from transformers import CLIPImageProcessorPil

    prompt = _template()
    tokenizer = template_tokenizer(prompt["template"], prompt["crop_start"])
    parts = FULL_I2V
    if model.init is Init.tiny:
        ids = {"image_token_index": tokenizer.convert_tokens_to_ids("<image>")}
        ids["pad_token_id"] = tokenizer.convert_tokens_to_ids(PAD)
        parts = random_init.shrunk(TINY_I2V, text_encoder=TINY_I2V["text_encoder"][1] | ids)
    return random_init.assemble(
        "HunyuanVideoImageToVideoPipeline",
        parts,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=7.0),
        tokenizer=tokenizer,
        tokenizer_2=random_init.clip_tokenizer(),
        image_processor=CLIPImageProcessorPil(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336}),
    )


def _template() -> dict[str, Any]:
    from diffusers.pipelines.hunyuan_video import pipeline_hunyuan_video_image2video as pipeline

    found: dict[str, Any] = pipeline.DEFAULT_PROMPT_TEMPLATE
    return found


def check(model: HunyuanVideoImageConfig, pipe: Any) -> None:
    """Raises `RunError` for the first version of the weights, whose latents the pipeline returns without the first."""
    kind = pipe.transformer.config.image_condition_type
    if kind != "token_replace":
        raise RunError(
            f"model.repo={model.repo}: it takes the image by {kind}; take weights that do by token_replace, as "
            "hunyuanvideo-community/HunyuanVideo-I2V"
        )


def encode(
    pipe: Any, model: HunyuanVideoImageConfig, sample: Any, guidance_scale: float | None, image: Any = None
) -> dict[str, Any]:
    """`prompt_embeds` (1, tokens of the image and the prompt, width of Llama), `prompt_attention_mask` and
    `pooled_prompt_embeds` (1, width of CLIP); with classifier-free guidance also the three `negative_*`.

    Raises:
        RunError: no image is wired to the stage.
    """
    from PIL import Image

    if image is None:
        raise RunError(
            f"model={model.name}: its prompt is read together with the first frame, so the encode stage needs "
            "inputs.image; take graph=image_to_video_seen"
        )
    # The pipeline reads a negative prompt beside a black image, and keeps more tokens of that.
    seen = {"": (sample.prompt, image, {"image_embed_interleave": 4})}
    if two_passes(model, guidance_scale):
        seen["negative_"] = (sample.negative_prompt, Image.new("RGB", image.size), {})
    found: dict[str, Any] = {}
    for prefix, (text, frame, options) in seen.items():
        refuse_long(pipe, model, text, _template())
        made = pipe.encode_prompt(frame, text, max_sequence_length=model.max_sequence_length, **options)
        found |= named(prefix, *made)
    return found


HUNYUAN_VIDEO_I2V = register("model", "hunyuan_video_i2v", HunyuanVideoImageConfig)(
    Family(
        tasks={"image_to_video": "HunyuanVideoImageToVideoPipeline"},
        build=build_pipeline,
        check=check,
        encode=encode,
        arguments=arguments,
        decode=decode,
        blocks=BLOCKS,
        published=lambda model: "hunyuanvideo-community/HunyuanVideo-I2V",
        kind="video",
        frame_multiple=4,
        tiny_size=64,
        batches=False,
    )
)
