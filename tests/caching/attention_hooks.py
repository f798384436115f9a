"""Puts diffusers' own strategies on a shrunk model: by us, and by diffusers' `enable_cache`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch

from tests.caching.shrunk import Shrunk
from wavespeed_runner.caching import GenerationInfo, Trace
from wavespeed_runner.caching.attach.diffusers_hooks import attach_diffusers_hooks
from wavespeed_runner.caching.attach.diffusers_options import FasterCache, PyramidAttentionBroadcast
from wavespeed_runner.config.schema import CacheConfig

STEPS = 10
PAB = PyramidAttentionBroadcast(spatial_attention_block_skip_range=3, spatial_attention_timestep_skip_range=[50, 950])
FASTER = FasterCache(
    spatial_attention_timestep_skip_range=[-1, 900],
    unconditional_batch_timestep_skip_range=[-1, 850],
    unconditional_batch_skip_range=3,
    alpha_low_frequency=1.2,
)
PAB_OF_DIFFUSERS = {"spatial_attention_block_skip_range": 3, "spatial_attention_timestep_skip_range": (50, 950)}
"""Options of diffusers' own configuration that say the same as `PAB`."""


@contextmanager
def attach(model: Shrunk, cache: CacheConfig) -> Iterator[Trace]:
    timesteps = lambda: model.called.scheduler.timesteps.tolist()  # noqa: E731
    info = GenerationInfo(steps=lambda: STEPS, timesteps=timesteps)
    with attach_diffusers_hooks([model.denoiser], cache, info) as trace:
        yield trace


def run(model: Shrunk, cache: CacheConfig) -> tuple[torch.Tensor, Trace]:
    """Latents and trace of one generation with the strategy attached by us."""
    with attach(model, cache) as trace:
        return model.denoise(trace.end_step), trace


@lru_cache(maxsize=3)
def load_tiny(name: str, *, guided: bool = False) -> Shrunk:
    return Shrunk(name, guided=guided, steps=STEPS)


def run_by_diffusers(model: Shrunk, config: Any) -> torch.Tensor:
    """Latents of one generation with `enable_cache` and with the pipeline's own timestep."""
    config.current_timestep_callback = lambda: model.called.current_timestep
    model.denoiser.enable_cache(config)
    try:
        return model.denoise()
    finally:
        model.denoiser.disable_cache()


@contextmanager
def count_attention_rows(model: Shrunk) -> Iterator[list[int]]:
    """Rows of every call of an attention's own code, counted at its projection of the queries."""
    rows: list[int] = []
    queries = [
        module for name, module in model.denoiser.named_modules() if "blocks." in name and name.endswith(".to_q")
    ]
    handles = [module.register_forward_pre_hook(lambda _, args: rows.append(len(args[0]))) for module in queries]
    try:
        yield rows
    finally:
        for handle in handles:
            handle.remove()
