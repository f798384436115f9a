"""LTX-2 by Lightricks, https://arxiv.org/abs/2601.03233: video and sound together, by way of diffusers' LTX2Pipeline
and LTX2ImageToVideoPipeline over the same weights.

The video is decoded. The sound is not: its latents are stored beside the video's as `audio_latents`, denormalised and
unpack_latents, shape (n, channels, length, mel bins), ready for `pipe.audio_vae.decode` and `pipe.vocoder`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError
from ...registry import register
from ..block_layouts import modulate_with_token_table
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..pipeline_call import to_uint8_videos
from ..text.gemma import GEMMA3, TINY_GEMMA3, build_gemma_tokenizer
from ..text.prompt_length import allow_length, refuse_truncation
from ..weights import random_init
from .ltx_video import randomize_latent_statistics

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor

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
"""As published: https://huggingface.co/Lightricks/LTX-2; what is not here is diffusers' default, made for it."""

TINY = random_init.override_configs(
    FULL,
    transformer={
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
    },
    vae={
        "block_out_channels": (8, 8, 8, 8),
        "layers_per_block": (1,) * 5,
        "decoder_block_out_channels": (8, 16, 32),
        "decoder_layers_per_block": (1,) * 4,
    },
    audio_vae={"base_channels": 8, "ch_mult": (1, 1, 1), "num_res_blocks": 1, "latent_channels": 2, "mel_bins": 16},
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
"""Latents keep their 128 channels, 1/32 of the size and 1/8 of the frames; those of the sound are narrower."""


@dataclass(kw_only=True)
class LTX2Config(ModelConfig):
    name: str = "ltx2"
    max_sequence_length: int = 1024
    """Tokens that Gemma reads; a multiple of 128."""
    frame_rate: float = 24.0
    """Frames a second that the model is told it makes; decides how long the sound is. `fps` is how fast it is shown."""
    audio_guidance_scale: float | None = None
    """Classifier-free guidance of the sound, 1 for none; null: the video's `guidance_scale`."""
    stg_scale: float = 0.0
    """Spatio-temporal skip guidance, https://arxiv.org/abs/2411.18664: above 0 one more pass a step."""
    stg_blocks: list[int] = field(default_factory=lambda: [29])
    """Blocks, counted from 0, that its pass skips."""
    modality_scale: float = 1.0
    """Guidance away from a pass in which video and sound do not see each other: above 1 one more pass a step."""
    guidance_rescale: float = 0.0
    """Keeps the contrast that guidance raises, https://arxiv.org/abs/2305.08891: 0 to 1."""
    use_cross_timestep: bool = False
    """True for LTX-2.3."""
    image_crf: int = 33
    """The first frame is compressed as H.264 at this rate factor, as in training; 0 leaves it as it is."""

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        allow_length(self.max_sequence_length, 4096)
        scale = self.audio_guidance_scale
        if scale is not None and scale <= 0:
            raise ConfigError(
                f"model.audio_guidance_scale={scale}: must be above 0, which diffusers takes for none given; 1 guides "
                "nothing, null follows guidance_scale"
            )
        if scale is not None and self.guidance is Guidance.none:
            raise ConfigError(
                f"model.audio_guidance_scale={scale}: has no effect with model.guidance=none; leave it out"
            )


def build_pipeline(model: LTX2Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """An `LTX2Pipeline` of random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = random_init.build_random_pipeline(
        "LTX2Pipeline",
        TINY if model.init is Init.tiny else FULL,
        dtype=dtype,
        device=device,
        scheduler=FlowMatchEulerDiscreteScheduler(
            use_dynamic_shifting=True,
            base_shift=0.95,
            max_shift=2.05,
            base_image_seq_len=1024,
            max_image_seq_len=4096,
            shift_terminal=0.1,
        ),
        tokenizer=build_gemma_tokenizer(),
    )
    randomize_latent_statistics(pipe.vae)
    randomize_latent_statistics(pipe.audio_vae)
    return pipe


def encode(
    pipe: DiffusionPipeline, model: LTX2Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """`prompt_embeds` (1, tokens, layers * width of Gemma), with guidance also `negative_prompt_embeds`.

    All layers of Gemma side by side are 0.4 MB a token. So only the prompt's own tokens are kept: the padding before
    them, 1024 tokens in all, is masked wherever the pipeline reads it, and `arguments` puts zeros in its place.
    """
    prompts = {"prompt_embeds": sample.prompt}
    if _uses_cfg(model, guidance_scale):
        prompts["negative_prompt_embeds"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for name, text in prompts.items():
        refuse_truncation(model, pipe.tokenizer, text.strip(), model.max_sequence_length, "model.max_sequence_length")
        embeds, mask, _, _ = pipe.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=model.max_sequence_length
        )
        embeddings[name] = embeds[:, -int(mask.sum()) :].clone()
    return embeddings


def _uses_cfg(model: LTX2Config, guidance_scale: float | None) -> bool:
    """Guidance of the sound alone needs the negative prompt too."""
    return uses_cfg(model, max(guidance_scale or 0, model.audio_guidance_scale or 0))


def build_arguments(model: LTX2Config, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings with their padding and its mask, and all kinds of guidance, named so that no default acts."""
    import torch

    call: dict[str, Any] = {}
    for name, embeds in embeddings.items():
        padding = model.max_sequence_length - embeds.shape[1]
        mask = embeds.new_ones(embeds.shape[:2], dtype=torch.int64)
        call[name] = torch.nn.functional.pad(embeds, (0, 0, padding, 0))
        call[name.replace("embeds", "attention_mask")] = torch.nn.functional.pad(mask, (padding, 0))
    scale = (inputs.guidance_scale or 1.0) if model.guidance is Guidance.true_cfg else 1.0
    sound = scale if model.audio_guidance_scale is None else model.audio_guidance_scale
    call |= {"guidance_scale": scale, "audio_guidance_scale": sound}
    for name in ("stg_scale", "modality_scale", "guidance_rescale"):
        call |= {name: getattr(model, name), f"audio_{name}": getattr(model, name)}
    call |= {"spatio_temporal_guidance_blocks": model.stg_blocks, "use_cross_timestep": model.use_cross_timestep}
    call |= {"frame_rate": model.frame_rate, "max_sequence_length": model.max_sequence_length}
    return call | ({"image_crf": model.image_crf} if inputs.task == "image_to_video" else {})


def run(pipe: DiffusionPipeline, call: dict[str, Any]) -> dict[str, Tensor]:
    """`latents` of the video, packed: (n, tokens, 128), and `audio_latents`.

    Taken before the pipeline denormalises them in float32: it decodes what it rounded first.
    """
    last: dict[str, Any] = {}

    def keep(_: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        last.update(tensors)
        return tensors

    output = pipe(**call, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=["latents"])
    return {"latents": last["latents"], "audio_latents": output.audio}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Videos from packed latents: numpy uint8 (n, num_frames, height, width, 3)."""
    grid = pipe._unpack_latents(
        latents["latents"],
        (num_frames - 1) // pipe.vae_temporal_compression_ratio + 1,
        height // pipe.vae_spatial_compression_ratio,
        width // pipe.vae_spatial_compression_ratio,
        pipe.transformer_spatial_patch_size,
        pipe.transformer_temporal_patch_size,
    ).to(pipe.text_encoder.dtype)
    vae = pipe.vae
    grid = pipe._denormalize_latents(grid, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    return to_uint8_videos(pipe, vae.decode(grid.to(vae.dtype), None, return_dict=False)[0])


STREAMS = ("hidden_states", "audio_hidden_states")
BLOCKS = Blocks(
    lists=(BlockList(name="transformer_blocks", streams=STREAMS, returns=STREAMS),),
    output_streams=STREAMS,
    modulated_input=modulate_with_token_table,
    # Which blocks spatio-temporal guidance perturbs (LTX-2.3) is found by how many ran before them.
    supports_tail_blocks=False,
)

LTX2 = register("model", "ltx2", LTX2Config)(
    Family(
        tasks={"text_to_video": "LTX2Pipeline", "image_to_video": "LTX2ImageToVideoPipeline"},
        build=build_pipeline,
        encode=encode,
        build_arguments=build_arguments,
        run=run,
        decode=decode,
        published_repo=lambda model: "Lightricks/LTX-2",
        kind="video",
        size_multiple=32,
        frame_multiple=8,
        tiny_size=64,
        tiny_frames=9,
        supports_batches=False,
        blocks=BLOCKS,
        min_steps=2,
    )
)
