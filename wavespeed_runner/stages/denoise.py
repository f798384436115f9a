"""Denoises: the stage that acceleration is about, and the one that is timed."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import Any
from uuid import uuid4

from ..caching import Trace, attached
from ..config import CacheConfig, SamplerConfig, top_level
from ..errors import RunError
from ..registry import implementation_of
from ..values import Embeddings, Latents, Pipeline, Sample
from . import stage

PROCESS = uuid4().hex
"""Says of two timings whether they were taken together."""


@dataclass(kw_only=True)
class DenoiseOptions:
    steps: int = top_level("steps")
    guidance_scale: float | None = top_level("guidance_scale")
    width: int = top_level("width")
    height: int = top_level("height")
    sampler: SamplerConfig = top_level("sampler")
    cache: CacheConfig = top_level("cache")
    warmup: int = top_level("measure.warmup")
    repeats: int = top_level("measure.repeats")


@stage("denoise", options=DenoiseOptions, timing=("warmup", "repeats"))
def denoise(options: DenoiseOptions, *, pipeline: Pipeline, embeddings: Embeddings, sample: Sample) -> Latents:
    """Noise and embeddings -> latents, with the cache strategy attached.

    Every generation starts from a clean strategy state. The first ones of a setting in this process are the warm-up:
    whole generations, not counted.

    Raises:
        RunError: the latents are not finite.
    """
    import torch

    tensors = {name: tensor.to(pipeline.device) for name, tensor in embeddings.tensors.items()}
    with torch.inference_mode():
        warm = []
        setting = repr(options)
        if setting not in pipeline.warmed:
            warm = [generate(options, pipeline, tensors, sample, note="warm-up") for _ in range(options.warmup)]
            pipeline.warmed.add(setting)
        runs = [generate(options, pipeline, tensors, sample) for _ in range(options.repeats)]

    latents, _, trace, step_seconds = runs[-1]
    others = [run[0] for run in (*warm, *runs[:-1])]
    if not torch.isfinite(latents).all():
        way_out = "a checkpoint or a setting is broken" if latents.dtype == torch.float32 else "try model.dtype=float32"
        raise RunError(f"the latents of {sample.prompt!r} are not finite (NaN or infinity); {way_out}")
    data = {
        "seconds": [run[1] for run in runs],
        "timed_by": PROCESS,
        "first_call": warm[0][1] if warm else None,
        # The same generation again: 0 where the machine repeats itself, null where it was not asked to.
        "spread": max((float((latents - other).abs().max()) for other in others), default=None),
        "steps": trace.steps_as_data(step_seconds),
        "engaged": {"cache": trace.evidence()},
    }
    return Latents(tensors={"latents": latents}, data=data)


def generate(
    options: DenoiseOptions, pipeline: Pipeline, tensors: dict[str, Any], sample: Sample, note: str = ""
) -> tuple[Any, float, Trace, list[float]]:
    """One generation: latents, wall seconds, what the cache did, seconds of each step.

    All noise comes from the sample's own generator, on the CPU, so that a seed means the same on every device.
    """
    import torch

    from ..metrics.timing import StepClock, wait_for

    pipe, family = pipeline.pipe, pipeline.family
    schedule = pipe.scheduler
    make_scheduler = implementation_of("sampler", options.sampler)
    pipe.scheduler = make_scheduler(pipe, options.sampler)
    label = f"{options.cache.name if options.cache.name != 'none' else 'no cache'}{f' ({note})' if note else ''}"
    pipe.set_progress_bar_config(disable=None, desc=label, leave=False)
    clock = StepClock(pipeline.device)
    denoiser = getattr(pipe, family.denoiser)

    def on_step_end(_pipe: Any, _step: int, _timestep: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
        clock.tick()
        return kwargs

    try:
        with attached(denoiser, family.blocks, options.cache, steps=options.steps) as trace:
            wait_for(pipeline.device)
            began = perf_counter()
            clock.start()
            latents = family.denoise(
                pipe,
                pipeline.model,
                tensors,
                steps=options.steps,
                guidance_scale=options.guidance_scale,
                width=options.width,
                height=options.height,
                generator=torch.Generator("cpu").manual_seed(sample.seed),
                callback=on_step_end,
            )
            wait_for(pipeline.device)
            seconds = perf_counter() - began
    finally:
        pipe.scheduler = schedule
    return latents, seconds, trace, clock.seconds()
