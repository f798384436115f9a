"""The stage `denoise`: noise to latents, with the chosen sampler and cache strategy, timed step by step."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ..accelerate.kernels import add_kernels, needs_kernels
from ..accelerate.shared_weights import count_other_bytes
from ..artifacts import Embeddings, Images, LatentGrid, Latents, Pipeline, Sample
from ..caching import flops, merge_evidence
from ..caching.engine import Observer
from ..caching.evidence import build_flops_evidence
from ..config.denoise_options import DenoiseOptions
from ..errors import RunError
from ..metrics.timing import peak_memory_bytes, reset_peak_memory
from ..models.pipeline_call import explain_not_finite
from .attached import refuse_eager
from .generate import Generation, generate
from .image_request import ImageRequest, build_requests
from .interface import stage
from .ranks_check import check_ranks

if TYPE_CHECKING:
    import torch

FILLED_IN_FROM = ("calibration", "calibrated_for")
PROCESS = uuid4().hex
"""Recorded with each timing: tells whether two timings were taken by the same process."""


def denoise_batch(
    options: DenoiseOptions, inputs: list[dict[str, Any]], observer: Observer | None = None
) -> list[Latents]:
    """Denoises several samples, `batch_size` images of the same shape at a time.

    A batch is always full; the last one is filled up with copies of its last image. So the shapes, and with them the
    rounding, of an image are the same whatever else is in its batch and whatever the store already holds.

    Args:
        options: of the stage.
        inputs: the stage's inputs by name, for each sample.
        observer: see `denoise`.

    Returns:
        The latents of each sample, in the order of `inputs`.
    """
    import torch

    requests: dict[str, list[ImageRequest]] = {}
    for index, sample_inputs in enumerate(inputs):
        for request in build_requests(options, index, **sample_inputs):
            requests.setdefault(request.batch_key, []).append(request)
    pipeline = inputs[0]["pipeline"]
    latents_by_sample: list[list[Latents]] = [[] for _ in inputs]
    with torch.inference_mode():
        for group in requests.values():
            for first in range(0, len(group), options.batch_size):
                batch = group[first : first + options.batch_size]
                for request, latents in zip(batch, _generate_batch(options, pipeline, batch, observer), strict=True):
                    latents_by_sample[request.sample].append(latents)
    return [_concatenate(options, parts) for parts in latents_by_sample]


@stage(
    "denoise",
    options=DenoiseOptions,
    # The values that a calibration fills in are themselves among the options; a name changes nothing.
    ignores=("cache.chosen_as", *(f"{at}.{key}" for at in ("cache", "sampler") for key in FILLED_IN_FROM)),
    timing=("warmup", "repeats"),
    needs={"strength": ("image", "latents")},
    batch=denoise_batch,
    collective=True,
)
def denoise(  # noqa: PLR0913 (the inputs of the stage, as graphs wire them)
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
    """Denoises noise, or a noised image, to latents with the chosen sampler and cache strategy.

    Without `image` and `latents` it starts from pure noise. With one of them it starts from that image, noised to
    `strength`; the result has the image's size (video models take the image as their first frame instead). Each of
    several images is denoised, with seeds that count up.

    Every generation starts with a clean cache state. The first generations with a setting in this process are the
    warm-up: complete generations that are not timed.

    Args:
        options: steps, size, sampler, cache and how to time them.
        observer: sees every computed call of the denoiser; calibration records with it. A graph passes none.
        pipeline: the loaded model.
        embeddings: of the prompt.
        sample: its seed and prompt.
        image: pixels to start from.
        latents: latents to start from, instead of an image.
        mask: only where it is white is the image repainted.

    Raises:
        RunError: the latents are not finite.
    """
    inputs = {"pipeline": pipeline, "embeddings": embeddings, "sample": sample}
    return denoise_batch(options, [inputs | {"image": image, "latents": latents, "mask": mask}], observer)[0]


def _generate_batch(
    options: DenoiseOptions, pipeline: Pipeline, requests: list[ImageRequest], observer: Observer | None
) -> list[Latents]:
    """Runs the warm-up and the timed generations of one batch; the latents of each request, with its measurements."""
    began = time()
    full_batch = requests + requests[-1:] * (options.batch_size - len(requests))
    setting = repr((options, requests[0].batch_key))
    warmups: list[Generation] = []
    profile = needs_kernels(pipeline.engaged) and setting not in pipeline.kernels
    if pipeline.parallel and pipeline.parallel.check and setting not in pipeline.warmed:
        pipeline.engaged["parallel"]["difference"] = check_ranks(options, pipeline, full_batch)
    if setting not in pipeline.warmed:
        # A rank sees the calls of its own guidance branch alone.
        alone = not (pipeline.parallel and pipeline.parallel.place.layout.cfg > 1)
        has_criterion = options.cache.criterion is not None and alone
        for number in range(options.warmup):
            extra = {"count_flops": has_criterion and number == 0, "profile": profile and number == 0}
            warmups.append(generate(options, pipeline, full_batch, "warm-up", observer=observer, **extra))
        pipeline.warmed[setting] = next(
            (run.flops for run in warmups if run.flops), flops.NO_WARMUP if alone else flops.OTHER_RANKS
        )
    if warmups:
        refuse_eager(pipeline)
        profile = False
    reset_peak_memory(pipeline.device)  # compiling, counting and profiling in the warm-up took memory of their own
    runs = [
        generate(options, pipeline, full_batch, observer=observer, profile=profile and number == 0)
        for number in range(options.repeats)
    ]
    if not warmups:
        refuse_eager(pipeline)
    pipeline.kernels.update((setting, run.kernels) for run in (*warmups, *runs) if run.kernels is not None)
    peak = peak_memory_bytes(pipeline.device)
    others = count_other_bytes(pipeline.weights, pipeline.device) if pipeline.weights else 0
    timed = {"timed_by": PROCESS, "timed_at": [began, time()], "peak_memory": peak and max(peak - others, 0)}
    latents = [
        _build_latents(position, requests, warmups, runs, pipeline, setting) for position in range(len(requests))
    ]
    return [Latents(tensors=part.tensors, data={**part.data, **timed}) for part in latents]


def _build_latents(
    position: int,
    requests: list[ImageRequest],
    warmups: list[Generation],
    runs: list[Generation],
    pipeline: Pipeline,
    setting: str,
) -> Latents:
    """The latents of one request of a batch, with its share of the times.

    Times are divided by the number of requests: the copies that fill a batch have no share.
    """
    import torch

    last, count = runs[-1], len(requests)
    tensors = _select_image(last, position)
    latents = tensors["latents"]
    if not torch.isfinite(latents).all():
        way_out = explain_not_finite(latents.dtype is torch.float32, pipeline.engaged.get("adapters"))
        raise RunError(f"the latents of {requests[position].prompt!r:.200} are not finite (NaN or infinity); {way_out}")
    repeats = [_select_image(run, position)["latents"] for run in (*warmups, *runs[:-1])]
    spread = [float((latents - repeated).abs().max()) for repeated in repeats]
    cache = last.trace.build_evidence(position)
    if cache is not None:
        cache |= build_flops_evidence(pipeline.warmed[setting], last.trace, position)
    data = {
        "size": last.size,
        "seconds": [run.seconds / count for run in runs],
        "first_call": warmups[0].seconds / count if warmups else None,
        "compile_seconds": _add_compile_seconds(warmups, count),
        "timing_void": next((why for run in runs if run.compiled and (why := run.compiled.explain_void())), None),
        # Largest difference between repeats of this generation: 0 if it is deterministic, null if it ran only once.
        "spread": max(spread, default=None),
        "steps": last.trace.build_step_records([seconds / count for seconds in last.step_seconds], position),
        "engaged": {"cache": cache, **requests[position].evidence, **_collect_evidence(pipeline, setting, last)},
    }
    return Latents(tensors=tensors, data=data)


def _add_compile_seconds(warmups: list[Generation], count: int) -> float | None:
    """One image's share of the seconds of compiling in the warm-up; None where nothing is compiled."""
    seconds = [run.compiled.seconds for run in warmups if run.compiled]
    return sum(seconds) / count if seconds else None


def _collect_evidence(pipeline: Pipeline, setting: str, last: Generation) -> dict[str, Any]:
    """The pipeline's evidence, with the kernels that ran, what was sent, and what the compiler has done so far."""
    engaged = add_kernels(pipeline.engaged, pipeline.kernels.get(setting))
    if last.messages is not None:
        engaged = {**engaged, "parallel": {**engaged["parallel"], "messages": last.messages}}
    compiled = engaged.get("compile")
    if pipeline.compiler is None or compiled is None:
        return engaged
    return {**engaged, "compile": {**compiled, **pipeline.compiler.build_evidence()}}


def _select_image(generation: Generation, position: int) -> dict[str, torch.Tensor]:
    """The tensors of one image of a batch."""
    if len(generation.tensors["latents"]) == 1:
        return generation.tensors
    return {name: tensor[position : position + 1] for name, tensor in generation.tensors.items()}


def _concatenate(options: DenoiseOptions, parts: list[Latents]) -> Latents:
    """Joins the latents of all images of one sample: adds up times, numbers the steps in a row.

    A sample without images (a detector found nothing to refine) gets an empty batch.
    """
    import torch

    if len(parts) == 1:
        return parts[0]
    if not parts:
        size = {name: getattr(options, name) for name in ("width", "height", "num_frames")}
        return Latents(tensors={"latents": torch.empty(0)}, data={"size": size})
    data = [part.data for part in parts]
    first_calls = [part["first_call"] for part in data if part["first_call"] is not None]
    compiling = [part["compile_seconds"] for part in data if part["compile_seconds"] is not None]
    spreads = [part["spread"] for part in data if part["spread"] is not None]
    steps = [step for part in data for step in part["steps"]]
    names = parts[0].tensors
    return Latents(
        tensors={name: torch.cat([part.tensors[name] for part in parts]) for name in names},
        data={
            **data[0],
            "peak_memory": max((part["peak_memory"] for part in data if part["peak_memory"]), default=None),
            "seconds": [sum(seconds) for seconds in zip(*(part["seconds"] for part in data), strict=True)],
            # From the start of the first to the end of the last.
            "timed_at": [data[0]["timed_at"][0], data[-1]["timed_at"][1]],
            "first_call": sum(first_calls) if first_calls else None,
            "compile_seconds": sum(compiling) if compiling else None,
            "timing_void": next((part["timing_void"] for part in data if part["timing_void"]), None),
            "spread": max(spreads, default=None),
            "steps": [{**step, "index": index} for index, step in enumerate(steps, 1)],
            "engaged": {**data[0]["engaged"], "cache": merge_evidence([part["engaged"]["cache"] for part in data])},
        },
    )
