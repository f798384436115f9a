"""Denoises: the stage that acceleration is about, and the one that is timed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any
from uuid import uuid4

from ..caching import Trace, attached, merged
from ..config import CacheConfig, SamplerConfig, top_level
from ..errors import RunError
from ..models.call import denoise as denoise_with
from ..models.call import for_task, watched
from ..models.family import Wanted, task_of
from ..registry import implementation_of
from ..values import Embeddings, Images, Latents, Pipeline, Sample
from . import stage

PROCESS = uuid4().hex
"""Says of two timings whether they were taken together."""


@dataclass(kw_only=True)
class DenoiseOptions:
    steps: int = top_level("steps")
    guidance_scale: float | None = top_level("guidance_scale")
    width: int = top_level("width")
    height: int = top_level("height")
    num_frames: int | None = top_level("num_frames")
    strength: float = top_level("strength")
    """How much of the schedule is run on a picture that is started from; of no effect without one."""
    sampler: SamplerConfig = top_level("sampler")
    cache: CacheConfig = top_level("cache")
    warmup: int = top_level("measure.warmup")
    repeats: int = top_level("measure.repeats")


@stage("denoise", options=DenoiseOptions, timing=("warmup", "repeats"))
def denoise(
    options: DenoiseOptions,
    *,
    pipeline: Pipeline,
    embeddings: Embeddings,
    sample: Sample,
    image: Images | None = None,
    latents: Latents | None = None,
    mask: Images | None = None,
) -> Latents:
    """Noise and embeddings -> latents, with the cache strategy attached.

    Without `image` and `latents` from pure noise. With one of them from that picture, noised as far as `strength` says;
    its size is the result's, but in video models, which take it as their first frame. With a `mask` too, only what is
    white in it is painted anew.

    Every generation starts from a clean strategy state. The first ones of a setting in this process are the warm-up:
    whole generations, not counted.

    Raises:
        RunError: the latents are not finite.
    """
    import torch

    tensors = {name: tensor.to(pipeline.device) for name, tensor in embeddings.tensors.items()}
    made = []
    with torch.inference_mode():
        for index, start in enumerate(_starts(options, pipeline, image, latents, mask)):
            made.append(_repeated(options, pipeline, tensors, replace(sample, seed=sample.seed + index), start))
    size = {"width": options.width, "height": options.height, "num_frames": options.num_frames}
    if not made:
        return Latents(tensors={"latents": torch.empty(0)}, data={"size": size})
    data = made[0].data if len(made) == 1 else _summed([one.data for one in made])
    names = made[0].tensors
    return Latents(tensors={name: torch.cat([one.tensors[name] for one in made]) for name in names}, data=data)


def _starts(
    options: DenoiseOptions, pipeline: Pipeline, image: Images | None, latents: Latents | None, mask: Images | None
) -> list[dict[str, Any]]:
    """What each generation starts from, as values of `Wanted`: one for every picture given, one empty for none."""
    given: dict[str, Any] = {name: value for name, value in (("image", image), ("latents", latents)) if value}
    if len(given) > 1:
        raise RunError("denoise: image and latents are both wired to it; one is what it starts from")
    if not given:
        return [{}]
    task = task_of(pipeline.family.kind, given | ({"mask": mask} if mask else {}))
    if latents:
        size = latents.data["size"]
        return [
            {"task": task, "strength": options.strength, "image": one[None].to(pipeline.device), **size}
            for one in latents.tensors["latents"]
        ]
    pictures = image.as_pil() if image else []
    if task == "image_to_video":
        return [{"task": task, "image": picture} for picture in pictures]
    masks = mask.as_pil() if mask else [None] * len(pictures)
    return [
        {"task": task, "strength": options.strength, "image": picture, "mask": white}
        | {"width": picture.width, "height": picture.height}
        for picture, white in zip(pictures, masks * (len(pictures) if len(masks) == 1 else 1), strict=True)
    ]


def _repeated(
    options: DenoiseOptions, pipeline: Pipeline, tensors: dict[str, Any], sample: Sample, start: dict[str, Any]
) -> Latents:
    """One picture's latents, with warm-up and repeats, and what happened on the way."""
    import torch

    setting = repr((options, start.get("task"), start.get("width"), start.get("height")))
    warm = []
    if setting not in pipeline.warmed:
        warm = [generate(options, pipeline, tensors, sample, start, note="warm-up") for _ in range(options.warmup)]
        pipeline.warmed.add(setting)
    runs = [generate(options, pipeline, tensors, sample, start) for _ in range(options.repeats)]

    result, size, _, trace, step_seconds = runs[-1]
    latents = result["latents"]
    others = [run[0]["latents"] for run in (*warm, *runs[:-1])]
    if not torch.isfinite(latents).all():
        way_out = "a checkpoint or a setting is broken" if latents.dtype == torch.float32 else "try model.dtype=float32"
        raise RunError(f"the latents of {sample.prompt!r} are not finite (NaN or infinity); {way_out}")
    data = {
        "size": size,
        "seconds": [run[2] for run in runs],
        "timed_by": PROCESS,
        "first_call": warm[0][2] if warm else None,
        # The same generation again: 0 where the machine repeats itself, null where it was not asked to.
        "spread": max((float((latents - other).abs().max()) for other in others), default=None),
        "steps": trace.steps_as_data(step_seconds),
        "engaged": {"cache": trace.evidence()},
    }
    return Latents(tensors=result, data=data)


def _summed(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What happened for several pictures of one sample, as one: times added up, steps in a row."""
    first = [part["first_call"] for part in parts if part["first_call"] is not None]
    spread = [part["spread"] for part in parts if part["spread"] is not None]
    steps = [step for part in parts for step in part["steps"]]
    return {
        **parts[0],
        "seconds": [sum(both) for both in zip(*(part["seconds"] for part in parts), strict=True)],
        "first_call": sum(first) if first else None,
        "spread": max(spread, default=None),
        "steps": [{**step, "index": index} for index, step in enumerate(steps, 1)],
        "engaged": {"cache": merged([part["engaged"]["cache"] for part in parts])},
    }


def generate(
    options: DenoiseOptions,
    pipeline: Pipeline,
    tensors: dict[str, Any],
    sample: Sample,
    start: dict[str, Any],
    note: str = "",
) -> tuple[dict[str, Any], dict[str, Any], float, Trace, list[float]]:
    """One generation: latents, their size, wall seconds, what the cache did, seconds of each step.

    start: what it starts from, as values of `Wanted`. All noise comes from the sample's own generator, on the CPU, so
    that a seed means the same on every device.
    """
    import torch

    from ..metrics.timing import StepClock, wait_for

    pipe, family = pipeline.pipe, pipeline.family
    generator = torch.Generator("cpu").manual_seed(sample.seed)
    size = {"width": options.width, "height": options.height, "num_frames": options.num_frames}
    plain = "text_to_video" if family.kind == "video" else "text_to_image"
    given = {"task": plain, **size, **start}
    wanted = Wanted(steps=options.steps, guidance_scale=options.guidance_scale, generator=generator, **given)
    schedule = pipe.scheduler
    pipe.scheduler = implementation_of("sampler", options.sampler)(pipe, options.sampler)
    label = f"{options.cache.name if options.cache.name != 'none' else 'no cache'}{f' ({note})' if note else ''}"
    pipe.set_progress_bar_config(disable=None, desc=label, leave=False)
    clock = StepClock(pipeline.device)
    try:
        called = for_task(pipe, family, wanted.task)
        denoiser = getattr(called, family.denoiser)

        def steps() -> int:
            """Of the schedule as it runs: a picture that is started from shortens it."""
            return int(called.num_timesteps)

        with attached(denoiser, family.blocks, options.cache, steps=steps) as trace:

            def on_step() -> None:
                clock.tick()
                trace.end_step()

            with watched(called.scheduler, generator, on_step):
                wait_for(pipeline.device)
                began = perf_counter()
                clock.start()
                latents = denoise_with(family, called, pipeline.model, tensors, wanted)
                wait_for(pipeline.device)
                seconds = perf_counter() - began
    finally:
        pipe.scheduler = schedule
    return latents, {name: given[name] for name in size}, seconds, trace, clock.seconds()
