"""What is on a pipeline during one generation and off it afterwards: the sampler, the cache strategy, who counts steps.

The stage `denoise` generates with it, and so does a pipeline of the user's that `wavespeed_runner.accelerate` got.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from ..accelerate.memory import denoiser_names
from ..artifacts import Pipeline
from ..caching import GenerationInfo, Trace, attach_strategy
from ..models.family import CallInputs, Family
from ..models.pipeline_call import watch_steps
from ..registry import find_implementation
from ..samplers.noise_levels import count_calls, read_noise_levels
from ..samplers.progress import measure_progress

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..caching.engine import Observer
    from ..config.denoise_options import DenoiseOptions
    from ..config.schema import SamplerConfig


@contextmanager
def use_sampler(pipe: DiffusionPipeline, options: SamplerConfig) -> Iterator[None]:
    """Gives the pipeline the chosen sampler's scheduler, and its own one back at the end."""
    own_scheduler = pipe.scheduler
    pipe.scheduler = find_implementation("sampler", options)(pipe, options)
    try:
        yield
    finally:
        pipe.scheduler = own_scheduler


@contextmanager
def follow_generation(
    options: DenoiseOptions,
    pipeline: Pipeline,
    pipe: DiffusionPipeline,
    wanted: CallInputs,
    images: int,
    on_step: Callable[[], None] = lambda: None,
    observer: Observer | None = None,
) -> Iterator[Trace]:
    """Keeps the cache strategy attached for one generation, and follows the steps of the sampler.

    Args:
        options: of the denoising stage.
        pipeline: the loaded model.
        pipe: the pipeline that is called, with the sampler's scheduler.
        wanted: what it is called with.
        images: that are denoised together.
        on_step: called after every step.
        observer: sees every computed call of the denoiser.

    Yields:
        What the strategy does, filled while the generation runs.
    """
    info = build_generation_info(pipe, pipeline.family, wanted, images)
    if pipeline.parallel:
        info = replace(info, add_up=pipeline.parallel.add_up, first_branch=pipeline.parallel.find_first_branch)
    denoisers = find_denoisers(pipe, pipeline.family)

    def end_step() -> None:
        on_step()
        trace.end_step()
        if pipeline.parallel:
            pipeline.parallel.end_step()

    with (
        attach_strategy(denoisers, pipeline.family.blocks, options.cache, info, observer=observer) as trace,
        watch_steps(pipe.scheduler, wanted.generator, end_step),
    ):
        yield trace


def find_denoisers(pipe: DiffusionPipeline, family: Family) -> list[torch.nn.Module]:
    """The denoisers of a pipeline, as far as they are known."""
    names = [name for name in (family.denoiser, family.denoiser_2) if name]
    return [module for name in names if (module := getattr(pipe, name, None))]


def build_generation_info(pipe: DiffusionPipeline, family: Family, wanted: CallInputs, images: int) -> GenerationInfo:
    """Describes a generation to the cache strategy: its steps, noise levels, and how its tokens lie in the image.

    Steps, sigmas and timesteps are functions, because the schedule is set only once the pipeline runs.
    """
    size = (wanted.width, wanted.height, wanted.num_frames)
    return GenerationInfo(
        steps=lambda: count_calls(pipe),
        sigmas=lambda: read_noise_levels(pipe.scheduler)[-count_calls(pipe) :],
        progress=lambda window: measure_progress(pipe.scheduler, window, flow=family.schedule == "flow")[
            -count_calls(pipe) :
        ],
        timesteps=lambda: pipe.scheduler.timesteps[-count_calls(pipe) :].tolist(),
        images=images,
        flow=family.schedule == "flow",
        channel_axis=2 if family.schedule == "cogvideox" else 1,
        own_tokens=_count_own_tokens(family, wanted),
        grid=lambda tokens: find_token_grid(tokens, size, family.frame_multiple),
    )


def _count_own_tokens(family: Family, wanted: CallInputs) -> int | None:
    """Tokens of the image that is made, in families whose denoiser gets those of other images behind them."""
    side = family.size_multiple
    return (wanted.width // side) * (wanted.height // side) if family.beside_noise else None


def find_token_grid(tokens: int, size: tuple[int, int, int | None], frame_multiple: int) -> tuple[int, ...] | None:
    """The grid in which a sequence of tokens lies in the image: (height, width), or (frames, height, width).

    Args:
        tokens: length of the sequence.
        size: width, height and number of frames in pixels.
        frame_multiple: frames of the video for each frame of the latents.

    Returns:
        None if no grid of the image's proportions has that many tokens.
    """
    width, height, num_frames = size
    frames = 1 if num_frames is None else (num_frames - 1) // frame_multiple + 1
    rows = round((tokens / frames * height / width) ** 0.5)
    if rows < 1 or tokens % (frames * rows):
        return None
    grid = (rows, tokens // (frames * rows))
    return grid if num_frames is None else (frames, *grid)


def refuse_eager(pipeline: Pipeline) -> None:
    """Raises RunError if the denoiser was to be compiled, has been called, and nothing of it was compiled."""
    if pipeline.compiler and not (pipeline.engaged.get("compile") or {}).get("disabled"):
        pipeline.compiler.refuse_eager(denoiser_names(pipeline.pipe))
