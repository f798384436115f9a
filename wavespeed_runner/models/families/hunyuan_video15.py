"""HunyuanVideo 1.5 by Tencent, run with diffusers' HunyuanVideo15Pipeline and HunyuanVideo15ImageToVideoPipeline.

Guidance is an object of the pipeline, not an argument of its call: `prepare` sets it. Paper:
https://arxiv.org/abs/2511.18870.
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
from ..text.encoders import TINY_QWEN2_5_VL, build_chat_tokenizer
from ..text.prompt_length import refuse_truncation
from ..weights import random_init
from .hunyuan_video15_architectures import (
    FULL,
    IMAGE_ENCODER,
    TINY_IMAGE_ENCODER,
    TINY_TEMPLATE,
    TINY_TOKENS,
    TINY_TRANSFORMER,
)

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


@dataclass(kw_only=True)
class HunyuanVideo15Config(ModelConfig):
    """Options of HunyuanVideo 1.5."""

    name: str = "hunyuan_video15"

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)


@dataclass(kw_only=True)
class HunyuanVideo15ImageConfig(HunyuanVideo15Config):
    """Options of HunyuanVideo 1.5 image-to-video."""

    name: str = "hunyuan_video15_i2v"


def _build(
    model: HunyuanVideo15Config,
    dtype: torch.dtype,
    device: torch.device | str,
    class_name: str,
    specs: random_init.ComponentSpecs,
    **others: Any,
) -> DiffusionPipeline:
    from diffusers import ClassifierFreeGuidance, FlowMatchEulerDiscreteScheduler
    from transformers import ByT5Tokenizer

    if model.init is Init.tiny:
        text = {**TINY_QWEN2_5_VL["text_config"], "num_hidden_layers": 4}  # the pipeline does not read the last two
        changes = {
            "transformer": TINY_TRANSFORMER,
            "vae": {"block_out_channels": (8, 8, 16, 32, 64), "layers_per_block": 1},
            "text_encoder": text,
            "text_encoder_2": random_init.TINY_T5 | {"vocab_size": 384},
            "image_encoder": TINY_IMAGE_ENCODER,
        }
        specs = random_init.override_configs(specs, **changes)
    pipe = random_init.build_random_pipeline(
        class_name,
        specs,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
        guider=ClassifierFreeGuidance(guidance_scale=model.guidance_scale or 1.0),
        tokenizer=build_chat_tokenizer(4096),
        tokenizer_2=ByT5Tokenizer(),
        **others,
    )
    if model.init is Init.tiny:
        vars(pipe).update(TINY_TOKENS | TINY_TEMPLATE)
    return pipe


def build_pipeline(model: HunyuanVideo15Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds a `HunyuanVideo15Pipeline` with random weights."""
    return _build(model, dtype, device, "HunyuanVideo15Pipeline", FULL)


def build_image_pipeline(
    model: HunyuanVideo15ImageConfig, dtype: torch.dtype, device: torch.device | str
) -> DiffusionPipeline:
    """Builds a `HunyuanVideo15ImageToVideoPipeline` with random weights."""
    from transformers import SiglipImageProcessorPil

    specs = {**random_init.override_configs(FULL, transformer={"task_type": "i2v"}), **IMAGE_ENCODER}
    size = TINY_IMAGE_ENCODER["image_size"] if model.init is Init.tiny else 384
    processor = SiglipImageProcessorPil(size={"height": size, "width": size})
    return _build(model, dtype, device, "HunyuanVideo15ImageToVideoPipeline", specs, feature_extractor=processor)


def encode(
    pipe: DiffusionPipeline, model: HunyuanVideo15Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    From Qwen2.5-VL `prompt_embeds` (1, 1000, width) and `prompt_embeds_mask` (1, 1000). From ByT5, which reads only the
    quoted parts of the prompt, `prompt_embeds_2` (1, 256, width) and `prompt_embeds_mask_2`. With classifier-free
    guidance also the four `negative_*`.
    """
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
        refuse_truncation(model, pipe.tokenizer, text, pipe.tokenizer_max_length, "the pipeline's limit", tokens=tokens)
        tensors = pipe.encode_prompt(text, dtype=pipe.transformer.dtype)
        embeddings |= {prefix + name: tensor for name, tensor in zip(names, tensors, strict=True)}
    return embeddings


def build_arguments(model: HunyuanVideo15Config, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """The embeddings; guidance is set by `prepare`."""
    return embeddings


def prepare(pipe: DiffusionPipeline, inputs: CallInputs) -> None:
    """Sets the guidance, and checks that the pipeline will keep the requested size.

    Raises:
        RunError: for this first frame, the pipeline would generate a video of another size.
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
            f"width={inputs.width} height={inputs.height}: the pipeline derives the size from this image; set "
            f"width={width} height={height}"
        )


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Decodes latents (n, 32, 1 + frames / 4, height / 16, width / 16): uint8 (n, num_frames, height, width, 3)."""
    scaled = latents["latents"].to(pipe.vae.dtype) / pipe.vae.config.scaling_factor
    return to_uint8_videos(pipe, pipe.vae.decode(scaled, return_dict=False)[0])


BLOCKS = Blocks(lists=(image_first("transformer_blocks"),), modulated_input=modulate_with_norm1)
REPO_PREFIX = "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p"

HUNYUAN_VIDEO15 = register("model", "hunyuan_video15", HunyuanVideo15Config)(
    Family(
        tasks={"text_to_video": "HunyuanVideo15Pipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        prepare=prepare,
        decode=decode,
        published_repo=lambda model: f"{REPO_PREFIX}_t2v",
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
        published_repo=lambda model: f"{REPO_PREFIX}_i2v",
        blocks=BLOCKS,
        kind="video",
        frame_multiple=4,
        tiny_size=64,
        adapters=(),
        supports_batches=False,
    )
)
