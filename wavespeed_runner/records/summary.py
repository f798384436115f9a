"""What one completed record says: its time, its share of the work, and how close its images are to the reference."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from ..config.lossy import find_caches, is_lossy, is_lossy_beside_caches, is_option_on
from ..metrics.forks import Forks
from ..metrics.statistics import Interval, bootstrap_interval
from .comparable import identify_comparable, identify_rivals
from .quality_summary import Quality, count_forks, summarize_judges, summarize_quality
from .record import Record
from .reference import find_solver, reference_steps


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What follows from a completed record alone."""

    seconds: Interval | None
    """Median time of denoising an image; None where the timing is void."""
    reference_seconds: float | None
    """The same of the reference."""
    speedup: float | None
    speedup_interval: Interval | None = None
    """Of images that were timed beside their reference: the median of their ratios, with its interval over prompts."""
    same_run: bool
    """Whether the reference was timed together with the images, so that the speedup is no guess."""
    computed_share: float | None
    never_hit: bool
    same_work: bool
    """Everything that the reference computes was computed: a difference in time is noise."""
    quality: dict[str, Quality]
    compared_with: str
    """Equal for jobs that can be compared: same model, prompts, reference and hardware. "" without a reference."""
    rivals_with: str
    """Equal for jobs with the same rivals: with the same batch size and memory options as well."""
    rival: bool
    """Nothing lossy is on, only fewer steps than in the reference, or another sampler."""
    solver: str = ""
    """The sampler with its options, such as `unipc, shift 1.65`, where it is not the reference's."""
    weight_bytes: int | None = None
    peak_memory_bytes: int | None = None
    """At the peak of denoising, see `SampleRecord.peak_memory_bytes`."""
    forks: Forks | None = None
    """None without a reference."""
    metrics: dict[str, Quality] = field(default_factory=dict)
    """What the judges of the config group `metrics` say."""


NO_SUMMARY = Summary(
    seconds=None,
    reference_seconds=None,
    speedup=None,
    same_run=False,
    computed_share=None,
    never_hit=False,
    same_work=False,
    quality={},
    compared_with="",
    rivals_with="",
    rival=False,
)
"""Of a job without a completed record."""


class _Model(msgspec.Struct):
    name: str


class _Graph(msgspec.Struct):
    stages: dict[str, dict[str, Any]]


class _Config(msgspec.Struct):
    """The parts of a config that are read here. A record's config is plain data, in which a plugin may have more."""

    model: _Model
    graph: _Graph
    steps: int


def summarize_record(record: Record) -> Summary:
    """Summarizes a completed record.

    Raises:
        msgspec.ValidationError: the config lacks something or has a wrong type in it.
    """
    config, timing = msgspec.convert(record.config, _Config), record.timing
    is_compared = record.reference.kind == "run"
    solver, steps_of_reference = find_solver(record), reference_steps(record)
    as_much = config.steps >= steps_of_reference and not solver
    reference = timing.reference_median if timing else None
    missed = never_hit(record)
    return Summary(
        seconds=None if timing and timing.void else _median_seconds(record),
        reference_seconds=reference if is_compared and reference and reference > 0 else None,
        speedup=timing.speedup if timing and is_compared else None,
        speedup_interval=_speedup(record) if is_compared else None,
        same_run=bool(timing and timing.same_run),
        computed_share=computed_share(record),
        never_hit=missed,
        same_work=missed and not is_lossy_beside_caches(record.config) and as_much,
        quality=summarize_quality(record) if is_compared else {},
        compared_with=identify_comparable(record) if is_compared else "",
        rivals_with=identify_rivals(record) if is_compared else "",
        rival=is_compared and not is_lossy(record.config) and not as_much,
        solver=solver if is_compared else "",
        weight_bytes=record.memory.weight_bytes if record.memory else None,
        peak_memory_bytes=record.memory.peak_bytes if record.memory else None,
        forks=count_forks(record) if is_compared else None,
        metrics=summarize_judges(record),
    )


def computed_share(record: Record) -> float | None:
    """The share of the reference's work that was computed.

    By FLOPs of the blocks where they were counted, else by steps; fewer steps than in the reference count as well.
    None where nothing was finished, and where calls inside of steps were skipped, whose share of the work is unknown.
    """
    share = _share_of_own_steps(record)
    return None if share is None else share * _relative_length(record)


def _relative_length(record: Record) -> float:
    """Steps of the run for each of the reference; of different samplers the calls of the denoiser."""
    calls = [(len(sample.steps), sample.reference_steps) for sample in record.samples if sample.reference_steps]
    if calls and find_solver(record):
        own, theirs = map(sum, zip(*calls, strict=True))
        return own / theirs
    return float(record.config["steps"] / reference_steps(record))


def _share_of_own_steps(record: Record) -> float | None:
    evidence = record.engaged.cache
    if not record.samples or (evidence and evidence.modules is not None):
        return None
    if evidence and evidence.flop_share is not None:
        return evidence.flop_share
    steps = [step.computed for sample in record.samples for step in sample.steps]
    return sum(steps) / len(steps) if steps else None


def never_hit(record: Record) -> bool:
    """Whether a cache was on, for all stages or for one, and every step was computed."""
    is_on = any(is_option_on(cache) for cache in find_caches(record.config))
    evidence = record.engaged.cache
    if not is_on or (evidence and evidence.hits):
        return False
    return bool(evidence and evidence.modules is not None) or _share_of_own_steps(record) == 1


def _median_seconds(record: Record) -> Interval | None:
    """The median over images and repetitions.

    Its interval is over prompts; with a single prompt over its images, with a single image over its repetitions.
    """
    several_prompts = len({sample.prompt for sample in record.samples}) > 1
    several_images = len(record.samples) > 1
    times: list[tuple[Any, float]] = []
    for number, sample in enumerate(record.samples):
        for repetition, seconds in enumerate(sample.raw_seconds):
            drawn: Any = sample.prompt if several_prompts else number
            times.append((drawn if several_images else (number, repetition), seconds))
    return bootstrap_interval(times, "median") if times else None


def _speedup(record: Record) -> Interval | None:
    """The ratio of the medians, with the interval of the images' own ratios, widened where that does not hold it."""
    timing = record.timing
    if timing is None or timing.void or timing.speedup is None or not timing.same_run:
        return None
    ratios = [
        (sample.prompt, sample.reference_seconds / sample.seconds)
        for sample in record.samples
        if sample.reference_seconds and sample.seconds
    ]
    if not ratios:
        return None
    found = bootstrap_interval(ratios, "median")
    value = timing.speedup
    return Interval(value=value, low=min(found.low, value), high=max(found.high, value))
