"""LTX-2 and LTX-2.3 by Lightricks, run with diffusers' LTX2Pipeline and LTX2ImageToVideoPipeline: video with audio.

Only the video is decoded. The audio stays as latents, stored beside those of the video as `audio_latents`: denormalised
and unpacked, shape (n, channels, length, mel bins), ready for `pipe.audio_vae.decode` and `pipe.vocoder`. Paper:
https://arxiv.org/abs/2601.03233.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...artifacts import Sample
from ...config.schema import Guidance, Init, ModelConfig
from ...errors import ConfigError, RunError
from ...registry import register
from ..block_layouts import modulate_with_token_table
from ..family import BlockList, Blocks, CallInputs, Family, allow_guidance, uses_cfg
from ..guidance import check_guidance_rescale
from ..pipeline_call import to_uint8_videos
from ..text.gemma import build_gemma_tokenizer
from ..text.prompt_length import allow_length, refuse_truncation
from ..weights import random_init
from .ltx2_architectures import FULL, FULL_23, TINY, TINY_23
from .ltx_video import randomize_latent_statistics

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline
    from torch import Tensor


@dataclass(kw_only=True)
class LTX2Config(ModelConfig):
    """Options of LTX-2."""

    name: str = "ltx2"
    max_sequence_length: int = 1024
    """Tokens that Gemma reads; a multiple of 128."""
    frame_rate: float = 24.0
    """Frames per second that the model is told; it decides how long the audio is. `fps` is the speed of playback."""
    audio_guidance_scale: float | None = None
    """Classifier-free guidance of the audio, 1 for none; null: the same as `guidance_scale`."""
    stg_scale: float = 0.0
    """Spatio-temporal skip guidance, https://arxiv.org/abs/2411.18664: above 0, one more pass per step."""
    stg_blocks: list[int] | None = None
    """Blocks, counted from 0, in which the extra pass of `stg_scale` skips attention. Null: as published, 29, and 28
    for LTX-2.3 (`use_cross_timestep`); in a tiny model the one in the middle."""
    modality_scale: float = 1.0
    """Guidance away from a pass in which video and audio do not attend to each other; above 1, one more pass a step."""
    guidance_rescale: float = 0.0
    """Rescales guided predictions against excess contrast, https://arxiv.org/abs/2305.08891: 0 (off) to 1."""
    use_cross_timestep: bool = False
    """True for LTX-2.3, whose architecture is another; `init=random` and `init=tiny` build it."""
    image_crf: int = 33
    """H.264 rate factor with which the first frame is compressed, as in training; 0: not compressed."""

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        allow_length(self.max_sequence_length, 4096)
        check_guidance_rescale(self, self.guidance_rescale)
        scale = self.audio_guidance_scale
        if scale is not None and scale <= 0:
            raise ConfigError(
                f"model.audio_guidance_scale={scale}: must be above 0; 1 is no guidance, null guidance_scale's"
            )
        if scale is not None and self.guidance is Guidance.none:
            raise ConfigError(
                f"model.audio_guidance_scale={scale}: has no effect with model.guidance=none; make it null"
            )


def build_pipeline(model: LTX2Config, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds an `LTX2Pipeline` with random weights."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    full, tiny = (FULL_23, TINY_23) if model.use_cross_timestep else (FULL, TINY)
    pipe = random_init.build_random_pipeline(
        "LTX2Pipeline",
        tiny if model.init is Init.tiny else full,
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


def list_stg_blocks(model: LTX2Config) -> list[int]:
    """The blocks that spatio-temporal guidance perturbs."""
    if model.stg_blocks is not None:
        return model.stg_blocks
    return [1] if model.init is Init.tiny else [28 if model.use_cross_timestep else 29]


def check(model: LTX2Config, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` for weights of the other version, and for a block that the model does not have.

    Guidance of such a block would silently do nothing.
    """
    is_23 = pipe.transformer.config.cross_attn_mod
    if is_23 != model.use_cross_timestep:
        option = "ltx23" if is_23 else "ltx2"
        raise RunError(
            f"model.use_cross_timestep={str(model.use_cross_timestep).lower()}: does not fit model.repo={model.repo}, "
            f"by cross_attn_mod of its transformer's config.json; use model={option}"
        )
    layers = len(pipe.transformer.transformer_blocks)
    blocks = list_stg_blocks(model)
    if model.stg_scale > 0 and (not blocks or not all(0 <= block < layers for block in blocks)):
        raise RunError(
            f"model.stg_blocks={blocks}: model.repo={model.repo} has the blocks 0 to {layers - 1}; name some of them, "
            "or model.stg_scale=0"
        )


def encode(
    pipe: DiffusionPipeline, model: LTX2Config, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt: `prompt_embeds` (1, tokens, layers * width of Gemma), with guidance also the negative one.

    The states of all layers of Gemma take 0.4 MB per token, so the padding before the prompt is not stored. It is
    masked wherever the pipeline reads it; `build_arguments` puts zeros in its place.
    """
    prompts = {"prompt_embeds": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_prompt_embeds"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for name, text in prompts.items():
        refuse_truncation(model, pipe.tokenizer, text.strip(), model.max_sequence_length, "model.max_sequence_length")
        embeds, mask, _, _ = pipe.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=model.max_sequence_length
        )
        embeddings[name] = embeds[:, -int(mask.sum()) :].clone()
    return embeddings


def build_arguments(model: LTX2Config, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Padded embeddings, their masks, and every kind of guidance, so that no default of the pipeline applies."""
    import torch

    call: dict[str, Any] = {}
    for name, embeds in embeddings.items():
        padding = model.max_sequence_length - embeds.shape[1]
        mask = embeds.new_ones(embeds.shape[:2], dtype=torch.int64)
        call[name] = torch.nn.functional.pad(embeds, (0, 0, padding, 0))
        call[name.replace("embeds", "attention_mask")] = torch.nn.functional.pad(mask, (padding, 0))
    scale = (inputs.guidance_scale or 1.0) if model.guidance is Guidance.true_cfg else 1.0
    audio_scale = scale if model.audio_guidance_scale is None else model.audio_guidance_scale
    call |= {"guidance_scale": scale, "audio_guidance_scale": audio_scale}
    for name in ("stg_scale", "modality_scale", "guidance_rescale"):
        call |= {name: getattr(model, name), f"audio_{name}": getattr(model, name)}
    call |= {"spatio_temporal_guidance_blocks": list_stg_blocks(model), "use_cross_timestep": model.use_cross_timestep}
    call |= {"frame_rate": model.frame_rate, "max_sequence_length": model.max_sequence_length}
    return call | ({"image_crf": model.image_crf} if inputs.task == "image_to_video" else {})


def run(pipe: DiffusionPipeline, call: dict[str, Any]) -> dict[str, Tensor]:
    """Calls the pipeline; returns packed video `latents` (n, tokens, 128) and `audio_latents`.

    The video latents are those after the last step. The ones it returns are already denormalised, in float32, while the
    pipeline's own decoding rounds them before that.
    """
    last: dict[str, Tensor] = {}

    def keep(_: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        last.update(tensors)
        return tensors

    output = pipe(**call, callback_on_step_end=keep, callback_on_step_end_tensor_inputs=["latents"])
    return {"latents": last["latents"], "audio_latents": output.audio}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Decodes packed latents: uint8 (n, num_frames, height, width, 3)."""
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
    # Spatio-temporal guidance (LTX-2.3) selects the blocks to perturb by counting the blocks before them.
    supports_tail_blocks=False,
)

LTX2 = register("model", "ltx2", LTX2Config)(
    Family(
        tasks={"text_to_video": "LTX2Pipeline", "image_to_video": "LTX2ImageToVideoPipeline"},
        build=build_pipeline,
        check=check,
        encode=encode,
        build_arguments=build_arguments,
        run=run,
        decode=decode,
        published_repo=lambda model: "diffusers/LTX-2.3-Diffusers" if model.use_cross_timestep else "Lightricks/LTX-2",
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
