"""One generation: a batch of images denoised together, with sampler and cache strategy, timed step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..accelerate.compile_monitor import CompileEvents
from ..accelerate.kernels import profile_kernels, record_examples
from ..accelerate.parallel.collectives import average_counts, take_counts
from ..artifacts import Pipeline
from ..caching import Trace
from ..caching.flops import Flops, count_generation_flops, record_calls
from ..metrics.timing import StepClock, wait_for_device
from ..models.family import CallInputs
from ..models.pipeline_call import denoise, get_task_pipeline
from .attached import find_denoisers, follow_generation, use_sampler
from .image_request import ImageRequest

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

    from ..caching.engine import Observer
    from ..config.denoise_options import DenoiseOptions

SIZE = ("width", "height", "num_frames")
"""Options that set the size of an image or video."""


@dataclass(kw_only=True)
class Generation:
    """The result of one generation."""

    tensors: dict[str, torch.Tensor]
    """What the family's `outputs` returns: the latents of all requests."""
    size: dict[str, int | None]
    """Width and height in pixels, and num_frames (None for images)."""
    seconds: float
    trace: Trace
    """What the cache strategy did in each step."""
    step_seconds: list[float]
    flops: Flops | None = None
    """FLOPs of its denoiser calls; None: not counted."""
    compiled: CompileEvents | None = None
    """What the compiler did meanwhile; None: nothing of the pipeline is compiled."""
    messages: dict[str, dict[str, float]] | None = None
    """Kind -> calls and bytes that this rank sent in a step, on average; None: there is one rank."""
    kernels: dict[str, dict[str, int]] | None = None
    """What `accelerate.kernels.profile_kernels` saw in one call of each denoiser; None: not profiled."""


def generate(
    options: DenoiseOptions,
    pipeline: Pipeline,
    requests: list[ImageRequest],
    note: str = "",
    *,
    count_flops: bool = False,
    profile: bool = False,
    observer: Observer | None = None,
) -> Generation:
    """Denoises a batch of images: puts the sampler in place, attaches the cache strategy, calls the pipeline.

    All noise comes from a CPU generator for each request, so a seed means the same on every device and in every batch.

    Args:
        options: of the denoising stage.
        pipeline: afterwards it is as before, with its own scheduler and nothing attached.
        requests: with equal `batch_key`.
        note: shown beside the progress bar.
        count_flops: also count FLOPs, with one more call of the denoiser afterwards; for a warm-up.
        profile: also see which kernels run, with one more call of the denoiser afterwards.
        observer: sees every computed call of the denoiser; calibration records with it.
    """
    family, device = pipeline.family, pipeline.device
    wanted, clock = build_call(options, pipeline, requests), StepClock(device)
    embeddings = concatenate([request.embeddings for request in requests])

    with use_sampler(pipeline.pipe, options.sampler), pipeline.running():
        _label_progress_bar(pipeline.pipe, options, note)
        pipe = get_task_pipeline(pipeline.pipe, family, wanted.task)
        denoisers = find_denoisers(pipe, family)
        with (
            follow_generation(options, pipeline, pipe, wanted, len(requests), clock.tick, observer) as trace,
            record_calls(denoisers if count_flops else []) as calls,
            record_examples(denoisers if profile else []) as examples,
            pipeline.watch_compiler() as compiled,
            # Last, so that the calls which are recorded for one process are whole.
            _on_all_ranks(pipeline, denoisers, len(requests), trace) as messages,
        ):
            wait_for_device(device)
            began = perf_counter()
            clock.start()
            tensors = denoise(family, pipe, pipeline.model, embeddings, wanted)
            wait_for_device(device)
            seconds = perf_counter() - began
        flops = count_generation_flops(calls, family.blocks, options.cache) if count_flops else None
        kernels = profile_kernels(examples) if profile else None
        if count_flops or profile:
            pipe.maybe_free_model_hooks()  # these calls have put offloaded models back on the device
    return Generation(
        tensors=tensors,
        size={name: getattr(wanted, name) for name in SIZE},
        seconds=seconds,
        trace=trace,
        step_seconds=clock.seconds(),
        flops=flops,
        compiled=compiled,
        messages=messages,
        kernels=kernels,
    )


@contextmanager
def _on_all_ranks(
    pipeline: Pipeline, denoisers: list[torch.nn.Module], images: int, trace: Trace
) -> Iterator[dict[str, dict[str, float]] | None]:
    """Divides a generation among the ranks, if there are several; adds the decisions that others made to the trace.

    Yields:
        Filled at the end: kind of message -> its calls and bytes in a step. None for one rank.
    """
    if not pipeline.parallel:
        yield None
        return
    messages: dict[str, dict[str, float]] = {}
    with pipeline.parallel.divide(denoisers, images):
        take_counts()  # starts anew
        yield messages
        messages.update(average_counts(take_counts(), max(trace.steps, 1)))
        trace.decisions = pipeline.parallel.join_decisions(trace.decisions)


def _label_progress_bar(pipe: DiffusionPipeline, options: DenoiseOptions, note: str) -> None:
    cache = options.cache.title if options.cache.name != "none" else "no cache"
    pipe.set_progress_bar_config(disable=None, desc=f"{cache} ({note})" if note else cache, leave=False)


def build_call(options: DenoiseOptions, pipeline: Pipeline, requests: list[ImageRequest]) -> CallInputs:
    """What the pipeline is called with: plain values for one request, lists for several."""
    import torch

    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in requests]
    values: dict[str, Any] = {name: getattr(options, name) for name in SIZE}
    values |= {"task": "text_to_video" if pipeline.family.kind == "video" else "text_to_image", **requests[0].start}
    for name in ("image", "mask"):
        images: list[Any] = [request.start.get(name) for request in requests]
        if isinstance(images[0], torch.Tensor):
            values[name] = torch.cat(images)
        elif images[0] is not None and len(images) > 1:
            values[name] = images
    return CallInputs(
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        generator=generators[0] if len(generators) == 1 else generators,
        **values,
    )


def concatenate(embeddings: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Joins the embeddings of several images to one batch."""
    import torch

    if len(embeddings) == 1:
        return embeddings[0]
    return {name: torch.cat([tensors[name] for tensors in embeddings]) for name in embeddings[0]}
