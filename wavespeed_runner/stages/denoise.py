"""Denoises: the stage that acceleration is about, and the one that is timed."""

from __future__ import annotations

from time import time
from typing import Any
from uuid import uuid4

from ..artifacts import Embeddings, Images, LatentGrid, Latents, Pipeline, Sample
from ..caching import flops, merge_evidence
from ..caching.engine import Observer
from ..caching.evidence import build_flops_evidence
from ..config.denoise_options import DenoiseOptions
from ..errors import RunError
from ..models.family import task_of
from .generate import Generation, ImageRequest, generate
from .interface import stage

PROCESS = uuid4().hex
"""Says of two timings whether one process took them."""


def denoise_batch(
    options: DenoiseOptions, inputs: list[dict[str, Any]], observer: Observer | None = None
) -> list[Latents]:
    """The stage for several samples: images of one form are denoised `batch_size` at a time.

    A batch is always full, the last one with copies of its last image: the same shapes, and so the same arithmetic,
    whoever the neighbours are and whatever the store already had.
    """
    import torch

    jobs: dict[str, list[ImageRequest]] = {}
    for index, given in enumerate(inputs):
        for job in _build_requests(options, index, **given):
            jobs.setdefault(job.batch_key, []).append(job)
    pipeline = inputs[0]["pipeline"]
    made: list[list[Latents]] = [[] for _ in inputs]
    with torch.inference_mode():
        for alike in jobs.values():
            for first in range(0, len(alike), options.batch_size):
                batch = alike[first : first + options.batch_size]
                for job, latents in zip(batch, _generate_batch(options, pipeline, batch, observer), strict=True):
                    made[job.sample].append(latents)
    return [_concatenate(options, parts) for parts in made]


@stage(
    "denoise",
    options=DenoiseOptions,
    # Numbers that were filled in are in the options themselves.
    ignores=("cache.calibration", "cache.calibrated_for"),
    timing=("warmup", "repeats"),
    needs={"strength": ("image", "latents")},
    batch=denoise_batch,
)
def denoise(
    options: DenoiseOptions,
    observer: Observer | None = None,
    *,
    pipeline: Pipeline,
    embeddings: Embeddings,
    sample: Sample,
    image: Images | None = None,
    latents: LatentGrid | None = None,
    mask: Images | None = None,
) -> Latents:
    """Noise and embeddings -> latents, with the cache strategy attached.

    Without `image` and `latents` from pure noise. With one of them from that image, noised as far as `strength` says;
    its size is the result's, but in video models, which take it as their first frame. With a `mask` too, only what is
    white in it is painted anew. Of several images each is denoised, with seeds that count up.

    Every generation starts from a clean strategy state. The first ones of a setting in this process are the warm-up:
    whole generations, not counted.

    Args:
        observer: sees every computed call of the denoiser; calibration records with it. A graph passes none.

    Raises:
        RunError: the latents are not finite.
    """
    given = {"pipeline": pipeline, "embeddings": embeddings, "sample": sample}
    return denoise_batch(options, [given | {"image": image, "latents": latents, "mask": mask}], observer)[0]


def _build_requests(
    options: DenoiseOptions,
    index: int,
    *,
    pipeline: Pipeline,
    embeddings: Embeddings,
    sample: Sample,
    **start: Any,
) -> list[ImageRequest]:
    """One for each image that the sample asks for."""
    tensors = {name: tensor.to(pipeline.device) for name, tensor in embeddings.tensors.items()}
    return [
        ImageRequest(sample=index, embeddings=tensors, seed=sample.seed + shift, start=one, prompt=sample.prompt)
        for shift, one in enumerate(_find_starts(options, pipeline, **start))
    ]


def _find_starts(
    options: DenoiseOptions,
    pipeline: Pipeline,
    image: Images | None = None,
    latents: LatentGrid | None = None,
    mask: Images | None = None,
) -> list[dict[str, Any]]:
    """What each generation starts from, as values of `Wanted`: one for every image given, one empty for none."""
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
    pil_images = image.as_pil() if image else []
    if task == "image_to_video":
        return [{"task": task, "image": pil_image} for pil_image in pil_images]
    masks = mask.as_pil() if mask else [None] * len(pil_images)
    return [
        {"task": task, "strength": options.strength, "image": pil_image, "mask": white}
        | {"width": pil_image.width, "height": pil_image.height}
        for pil_image, white in zip(pil_images, masks * (len(pil_images) if len(masks) == 1 else 1), strict=True)
    ]


def _generate_batch(
    options: DenoiseOptions, pipeline: Pipeline, jobs: list[ImageRequest], observer: Observer | None
) -> list[Latents]:
    """Latents of jobs of one form, with warm-up and repeats, and what happened on the way."""
    begun = time()
    full = jobs + jobs[-1:] * (options.batch_size - len(jobs))
    setting = repr((options, jobs[0].batch_key))
    warm: list[Generation] = []
    if setting not in pipeline.warmed:
        decides = options.cache.criterion is not None
        for number in range(options.warmup):
            counts = decides and number == 0
            warm.append(generate(options, pipeline, full, "warm-up", count_flops=counts, observer=observer))
        pipeline.warmed[setting] = next((run.flops for run in warm if run.flops), flops.NO_WARMUP)
    runs = [generate(options, pipeline, full, observer=observer) for _ in range(options.repeats)]
    when = {"timed_by": PROCESS, "timed_at": [begun, time()]}
    made = [_build_latents(position, jobs, warm, runs, pipeline, setting) for position in range(len(jobs))]
    return [Latents(tensors=one.tensors, data={**one.data, **when}) for one in made]


def _build_latents(
    position: int,
    jobs: list[ImageRequest],
    warm: list[Generation],
    runs: list[Generation],
    pipeline: Pipeline,
    setting: str,
) -> Latents:
    """One image's part of the generations; of their times its share: copies that fill a batch take none."""
    import torch

    job, count = jobs[position], len(jobs)

    def own(generated: Generation) -> dict[str, Any]:
        if len(generated.tensors["latents"]) == 1:
            return generated.tensors
        return {name: tensor[position : position + 1] for name, tensor in generated.tensors.items()}

    result, last = own(runs[-1]), runs[-1]
    latents = result["latents"]
    if not torch.isfinite(latents).all():
        way_out = "a checkpoint or a setting is broken" if latents.dtype == torch.float32 else "try model.dtype=float32"
        raise RunError(f"the latents of {job.prompt!r} are not finite (NaN or infinity); {way_out}")
    spread = [float((latents - own(other)["latents"]).abs().max()) for other in (*warm, *runs[:-1])]
    cache = last.trace.build_evidence(position)
    if cache is not None:
        cache |= build_flops_evidence(pipeline.warmed[setting], last.trace, position)
    data = {
        "size": last.size,
        "seconds": [run.seconds / count for run in runs],
        "first_call": warm[0].seconds / count if warm else None,
        # The same generation again: 0 where the machine repeats itself, null where it was not asked to.
        "spread": max(spread, default=None),
        "steps": last.trace.build_step_records([seconds / count for seconds in last.step_seconds], position),
        "engaged": {"cache": cache, **pipeline.engaged},
    }
    return Latents(tensors=result, data=data)


def _concatenate(options: DenoiseOptions, parts: list[Latents]) -> Latents:
    """Latents of all the images of one sample: times added up, steps in a row. None at all: an empty batch."""
    import torch

    if len(parts) == 1:
        return parts[0]
    if not parts:
        size = {name: getattr(options, name) for name in ("width", "height", "num_frames")}
        return Latents(tensors={"latents": torch.empty(0)}, data={"size": size})
    data = [part.data for part in parts]
    first = [one["first_call"] for one in data if one["first_call"] is not None]
    spread = [one["spread"] for one in data if one["spread"] is not None]
    steps = [step for one in data for step in one["steps"]]
    names = parts[0].tensors
    return Latents(
        tensors={name: torch.cat([part.tensors[name] for part in parts]) for name in names},
        data={
            **data[0],
            "seconds": [sum(both) for both in zip(*(one["seconds"] for one in data), strict=True)],
            # Begin and end of all of it.
            "timed_at": [data[0]["timed_at"][0], data[-1]["timed_at"][1]],
            "first_call": sum(first) if first else None,
            "spread": max(spread, default=None),
            "steps": [{**step, "index": index} for index, step in enumerate(steps, 1)],
            "engaged": {**data[0]["engaged"], "cache": merge_evidence([one["engaged"]["cache"] for one in data])},
        },
    )
