"""LTX-Video by Lightricks, run with diffusers' LTXPipeline and LTXImageToVideoPipeline over the same weights.

Since version 0.9.1 the decoder of the autoencoder performs the last denoising step: decoding adds noise, which the
pipelines draw from the generator after denoising has advanced it. So the generator's state is stored with the latents.
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
from ..text.prompt_length import refuse_truncation
from ..weights import byte_tokenizer, random_init
from ..weights.rng_state import read_generator_states, restore_generators
from .ltx_video_architectures import FULL, NOISY_VAE, TINY, TINY_NOISY_VAE

if TYPE_CHECKING:
    import numpy as np
    import torch
    from diffusers import DiffusionPipeline, ModelMixin
    from torch import Tensor


@dataclass(kw_only=True)
class LTXVideoConfig(ModelConfig):
    """Options of LTX-Video."""

    name: str = "ltx_video"
    max_sequence_length: int = 128
    """Tokens of the T5 encoder. Shorter prompts are padded to it, and the padding is masked."""
    frame_rate: int = 25
    """Frames per second that the model is told; `fps` is the speed of playback."""
    decode_timestep: float | None = None
    """Noise level at which the decoder takes the latents, 0 to 1. Null for version 0.9.0, whose decoder adds none."""
    decode_noise_scale: float | None = None
    """Share of noise mixed into the latents before decoding; null: the same as `decode_timestep`."""

    guidance_rescale: float = 0.0
    """Rescales guided predictions against excess contrast, https://arxiv.org/abs/2305.08891: 0 (off) to 1."""

    def __post_init__(self) -> None:
        allow_guidance(self, Guidance.true_cfg, Guidance.none)
        check_guidance_rescale(self, self.guidance_rescale)
        if not 1 <= self.max_sequence_length <= 512:
            raise ConfigError(f"model.max_sequence_length={self.max_sequence_length}: allowed: 1 to 512")
        for key in ("decode_timestep", "decode_noise_scale"):
            value = getattr(self, key)
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"model.{key}={value}: allowed: 0 to 1, or null")
        if self.decode_timestep is None and self.decode_noise_scale is not None:
            raise ConfigError(
                f"model.decode_noise_scale={self.decode_noise_scale}: has no effect while model.decode_timestep is "
                "null; set both or neither"
            )


def build_pipeline(model: LTXVideoConfig, dtype: torch.dtype, device: torch.device | str) -> DiffusionPipeline:
    """Builds an `LTXPipeline` with random weights, and with a decoder that takes noise if `decode_timestep` is set."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    specs = TINY if model.init is Init.tiny else FULL
    if model.decode_timestep is not None:
        specs = random_init.override_configs(specs, vae=NOISY_VAE)
        if model.init is Init.tiny:
            specs = random_init.override_configs(specs, vae=TINY_NOISY_VAE | {"layers_per_block": (1,) * 5})
    pipe = random_init.build_random_pipeline(
        "LTXPipeline",
        specs,
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
        tokenizer=byte_tokenizer.build_t5_tokenizer(128),
    )
    randomize_latent_statistics(pipe.vae)
    return pipe


def randomize_latent_statistics(vae: ModelMixin) -> None:
    """Fills the latents' means and deviations, which checkpoints hold, with seeded values other than 0 and 1."""
    import torch

    if vae.latents_mean.is_meta:
        return
    generator = torch.Generator(vae.latents_mean.device).manual_seed(0)
    vae.latents_mean.normal_(0, 0.1, generator=generator)
    vae.latents_std.uniform_(0.8, 1.2, generator=generator)


def check(model: LTXVideoConfig, pipe: DiffusionPipeline) -> None:
    """Raises `RunError` if the decoder does not take noise the way the configuration says."""
    config = pipe.vae.config
    if any(config.decoder_inject_noise):
        raise RunError(
            f"model.repo={model.repo}: its decoder (version 0.9.1) adds noise from the global random state, so one "
            "seed would not give the same video twice; use version 0.9.0, or 0.9.5 and later"
        )
    if config.timestep_conditioning != (model.decode_timestep is not None):
        allowed = "a number, 0.05 as published" if config.timestep_conditioning else "null"
        raise RunError(f"model.decode_timestep={model.decode_timestep}: model.repo={model.repo} needs {allowed}")


def encode(
    pipe: DiffusionPipeline, model: LTXVideoConfig, sample: Sample, guidance_scale: float | None
) -> dict[str, Tensor]:
    """Encodes the prompt as keyword arguments of the pipeline.

    `prompt_embeds` (1, max_sequence_length, width of T5) and `prompt_attention_mask` (1, max_sequence_length); with
    classifier-free guidance also the two `negative_*` of the same shapes.
    """
    prompts = {"": sample.prompt}
    if uses_cfg(model, guidance_scale):
        prompts["negative_"] = sample.negative_prompt
    embeddings: dict[str, Tensor] = {}
    for prefix, text in prompts.items():
        refuse_truncation(model, pipe.tokenizer, text, model.max_sequence_length, "model.max_sequence_length")
        embeds, mask, _, _ = pipe.encode_prompt(
            text, do_classifier_free_guidance=False, max_sequence_length=model.max_sequence_length
        )
        embeddings |= {f"{prefix}prompt_embeds": embeds, f"{prefix}prompt_attention_mask": mask}
    return embeddings


def build_arguments(model: LTXVideoConfig, embeddings: dict[str, Tensor], inputs: CallInputs) -> dict[str, Any]:
    """Embeddings, guidance (1 is none) and what the decoder will need."""
    call = {**embeddings, "guidance_scale": inputs.guidance_scale or 1.0, "frame_rate": model.frame_rate}
    call |= {"guidance_rescale": model.guidance_rescale}
    if model.decode_timestep is not None:
        noise = model.decode_timestep if model.decode_noise_scale is None else model.decode_noise_scale
        call |= {"decode_timestep": model.decode_timestep, "decode_noise_scale": noise}
    return call


def run(pipe: DiffusionPipeline, call: dict[str, Any]) -> dict[str, Tensor]:
    """Calls the pipeline; returns packed `latents` (n, tokens, 128), and what a decoder that takes noise needs."""
    import torch

    latents = pipe(**call).frames
    if "decode_timestep" not in call:
        return {"latents": latents}
    decoding = {name: torch.full((len(latents),), call[name]) for name in ("decode_timestep", "decode_noise_scale")}
    return {"latents": latents, "generator_state": read_generator_states(call["generator"]), **decoding}


def decode(
    pipe: DiffusionPipeline, latents: dict[str, Tensor], *, width: int, height: int, num_frames: int
) -> np.ndarray:
    """Decodes packed latents: uint8 (n, num_frames, height, width, 3)."""
    from diffusers.utils.torch_utils import randn_tensor

    grid = pipe._unpack_latents(
        latents["latents"],
        (num_frames - 1) // pipe.vae_temporal_compression_ratio + 1,
        height // pipe.vae_spatial_compression_ratio,
        width // pipe.vae_spatial_compression_ratio,
        pipe.transformer_spatial_patch_size,
        pipe.transformer_temporal_patch_size,
    )
    vae = pipe.vae
    grid = pipe._denormalize_latents(grid, vae.latents_mean, vae.latents_std, vae.config.scaling_factor)
    grid, timestep = grid.to(pipe.text_encoder.dtype), None
    if vae.config.timestep_conditioning:
        timestep = latents["decode_timestep"].to(grid.dtype)
        share = latents["decode_noise_scale"].to(grid.dtype)[:, None, None, None, None]
        generators = restore_generators(latents["generator_state"])
        noise = randn_tensor(grid.shape, generator=generators, device=grid.device, dtype=grid.dtype)
        grid = (1 - share) * grid + share * noise
    return to_uint8_videos(pipe, vae.decode(grid.to(vae.dtype), timestep, return_dict=False)[0])


LTX_VIDEO = register("model", "ltx_video", LTXVideoConfig)(
    Family(
        tasks={"text_to_video": "LTXPipeline", "image_to_video": "LTXImageToVideoPipeline"},
        build=build_pipeline,
        check=check,
        encode=encode,
        build_arguments=build_arguments,
        run=run,
        decode=decode,
        published_repo=lambda model: f"Lightricks/LTX-Video{'' if model.decode_timestep is None else '-0.9.5'}",
        single_file_prefixes={"transformer": ("model.diffusion_model.",), "vae": ("vae.",)},
        blocks=Blocks(lists=(BlockList(name="transformer_blocks"),), modulated_input=modulate_with_token_table),
        kind="video",
        size_multiple=32,
        frame_multiple=8,
        tiny_size=64,
        tiny_frames=9,
        min_steps=2,
    )
)
