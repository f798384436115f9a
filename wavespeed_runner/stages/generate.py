"""One generation: several images denoised together, with sampler and cache strategy, timed step by step."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from ..artifacts import Pipeline
from ..caching import GenerationInfo, Trace, attach_strategy
from ..caching.flops import Flops, count_generation_flops, record_calls
from ..models.family import Family, Wanted
from ..models.pipeline_call import denoise, for_task, watched
from ..registry import implementation_of
from ..samplers.noise_levels import count_calls, read_noise_levels

if TYPE_CHECKING:
    from ..caching.engine import Observer
    from ..config.denoise_options import DenoiseOptions

SIZE = ("width", "height", "num_frames")


@dataclass(frozen=True, kw_only=True)
class ImageRequest:
    """One image to be denoised."""

    sample: int
    """Which of the samples it belongs to."""
    embeddings: dict[str, Any]
    """On the pipeline's device; each a batch of one."""
    seed: int
    start: dict[str, Any]
    """What it starts from, as values of `Wanted`; empty for pure noise."""
    prompt: str = ""

    @property
    def batch_key(self) -> str:
        """Jobs of one form can be denoised together."""
        shapes = {name: (tuple(tensor.shape), str(tensor.dtype)) for name, tensor in self.embeddings.items()}
        # An image, be it PIL's or a tensor, must be of the same kind and size.
        images = {name: getattr(self.start.get(name), "size", None) for name in ("image", "mask")}
        images = {name: size() if callable(size) else size for name, size in images.items()}
        values = {name: value for name, value in self.start.items() if name not in images}
        return repr((sorted(shapes.items()), images, sorted(values.items())))


@dataclass(kw_only=True)
class Generation:
    """What one generation gave."""

    tensors: dict[str, Any]
    """What the family's `outputs` gives: latents of all jobs."""
    size: dict[str, Any]
    """Width, height, num_frames in pixels."""
    seconds: float
    trace: Trace
    step_seconds: list[float]
    flops: Flops | None = None
    """What its calls of the denoiser take; None: not asked for."""


def generate(
    options: DenoiseOptions,
    pipeline: Pipeline,
    jobs: list[ImageRequest],
    note: str = "",
    *,
    count_flops: bool = False,
    observer: Observer | None = None,
) -> Generation:
    """Denoises jobs of one form together.

    All noise comes from each job's own generator, on the CPU, so that a seed means the same on every device and
    whatever the neighbours are. count_flops: for a warm-up; the denoiser is called once more afterwards. observer: sees
    every computed call of the denoiser; calibration records with it.
    """
    from ..metrics.timing import StepClock, wait_for_device

    pipe, family = pipeline.pipe, pipeline.family
    wanted, embeddings = _build_call(options, pipeline, jobs), _concatenate([job.embeddings for job in jobs])
    schedule = pipe.scheduler
    pipe.scheduler = implementation_of("sampler", options.sampler)(pipe, options.sampler)
    label = f"{options.cache.name if options.cache.name != 'none' else 'no cache'}{f' ({note})' if note else ''}"
    pipe.set_progress_bar_config(disable=None, desc=label, leave=False)
    clock = StepClock(pipeline.device)
    try:
        called = for_task(pipe, family, wanted.task)

        names = [name for name in (family.denoiser, family.denoiser_2) if name]
        denoisers = [part for name in names if (part := getattr(called, name, None))]
        run = build_run(called, family, wanted, len(jobs))
        with (
            attach_strategy(denoisers, family.blocks, options.cache, run, observer=observer) as trace,
            record_calls(denoisers if count_flops else []) as calls,
        ):

            def on_step() -> None:
                clock.tick()
                trace.end_step()

            with watched(called.scheduler, wanted.generator, on_step):
                wait_for_device(pipeline.device)
                began = perf_counter()
                clock.start()
                made = denoise(family, called, pipeline.model, embeddings, wanted)
                wait_for_device(pipeline.device)
                seconds = perf_counter() - began
        flops = None
        if count_flops:
            flops = count_generation_flops(calls, family.blocks, options.cache)
            called.maybe_free_model_hooks()  # offloaded models leave the device again, as after any call
    finally:
        pipe.scheduler = schedule
    size = {name: getattr(wanted, name) for name in SIZE}
    return Generation(tensors=made, size=size, seconds=seconds, trace=trace, step_seconds=clock.seconds(), flops=flops)


def build_run(called: Any, family: Family, wanted: Wanted, images: int) -> GenerationInfo:
    """The generation as cache strategies see it."""
    size = (wanted.width, wanted.height, wanted.num_frames)
    return GenerationInfo(
        steps=lambda: count_calls(called),
        sigmas=lambda: read_noise_levels(called.scheduler)[-count_calls(called) :],
        timesteps=lambda: called.scheduler.timesteps[-count_calls(called) :].tolist(),
        images=images,
        flow=family.schedule == "flow",
        channel_axis=2 if family.schedule == "cogvideox" else 1,
        grid=lambda tokens: token_grid(tokens, size, family.frame_multiple),
    )


def _build_call(options: DenoiseOptions, pipeline: Pipeline, jobs: list[ImageRequest]) -> Wanted:
    """What the pipeline is called for. One job gives plain values, several give lists."""
    import torch

    generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
    given: dict[str, Any] = {name: getattr(options, name) for name in SIZE}
    given |= {"task": "text_to_video" if pipeline.family.kind == "video" else "text_to_image", **jobs[0].start}
    for name in ("image", "mask"):
        several: list[Any] = [job.start.get(name) for job in jobs]
        if isinstance(several[0], torch.Tensor):
            given[name] = torch.cat(several)
        elif several[0] is not None and len(several) > 1:
            given[name] = several
    return Wanted(
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        generator=generators[0] if len(generators) == 1 else generators,
        **given,
    )


def _concatenate(embeddings: list[dict[str, Any]]) -> dict[str, Any]:
    """Embeddings of several images, one behind the other."""
    import torch

    if len(embeddings) == 1:
        return embeddings[0]
    return {name: torch.cat([one[name] for one in embeddings]) for name in embeddings[0]}


def token_grid(tokens: int, size: tuple[int, int, int | None], frame_multiple: int) -> tuple[int, ...] | None:
    """(height, width) or (frames, height, width) of latents that lie in a sequence of so many tokens.

    size: width, height and number of frames in pixels. None where no grid of these proportions has so many tokens.
    """
    width, height, num_frames = size
    frames = 1 if num_frames is None else (num_frames - 1) // frame_multiple + 1
    rows = round((tokens / frames * height / width) ** 0.5)
    if rows < 1 or tokens % (frames * rows):
        return None
    grid = (rows, tokens // (frames * rows))
    return grid if num_frames is None else (frames, *grid)
