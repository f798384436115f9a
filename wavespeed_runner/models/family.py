"""What the runner must know of a model family, as data and functions: one `Family` a file in this folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Blocks:
    """Where a denoiser keeps its repeated blocks and how they are called; what block caches attach to.

    Explicit, not guessed from shapes: argument names and return order differ between families.
    """

    lists: tuple[str, ...]
    """Attributes of the denoiser that hold the block lists, in the order in which they run."""
    hidden: str = "hidden_states"
    encoder: str | None = "encoder_hidden_states"
    returns: tuple[str, ...] = ("hidden_states",)
    """What a block returns, in order, named as its arguments are."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """One model family. Functions import torch and diffusers inside.

    load(model, device) -> pipe: the diffusers pipeline, on the device, for any `init`.
    encode(pipe, model, sample, guidance_scale) -> {argument: tensor}: the prompt as keyword arguments of the pipeline.
    denoise(pipe, model, embeddings, *, steps, guidance_scale, width, height, generator, callback) -> latents as the
        pipeline returns them with `output_type="latent"`; `callback` is diffusers' `callback_on_step_end`. Also a
        stochastic sampler draws from `generator` alone.
    decode(pipe, latents, *, width, height) -> numpy uint8 array (n, height, width, 3).
    """

    load: Callable[..., Any]
    encode: Callable[..., dict[str, Any]]
    denoise: Callable[..., Any]
    decode: Callable[..., Any]
    denoiser: str = "transformer"
    """The pipeline's component that is called every step."""
    blocks: Blocks | None = None
    """None: block caches cannot attach."""
    kind: str = "image"
    size_multiple: int = 16
    """Width and height must be multiples of this many pixels."""
    tiny_size: int = 128
    """Width and height of a rehearsal with `init=tiny`, where the user gives none."""
    samplers: tuple[str, ...] = ("default",)
    """Samplers that were tried on this family and are right."""
