"""The record of a run: the typed contents of record.json, enough to judge a run and to run it again.

The fields have the names and the order that they have in the file; `docs/record.schema.json` is generated from these
types and their docstrings. A field that may be None is written as `null`, unless its default is None: then it is left
out of the file where it does not apply.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from .sample import Engaged, Figure, Metrics, SampleRecord, StageRun

SCHEMA_VERSION: Literal[2] = 2
"""Version 2 renamed `cache.foretold` to `cache.predicted`. Records of version 1 are still read."""

Status = Literal["completed", "failed", "interrupted"]


class Failure(Struct, kw_only=True):
    """Why a run did not complete."""

    stage: str
    """The stage that was running, or `start`, `ranks` (waiting for them), `metrics` (the judges are loaded), `images`,
    `record`."""
    type: str
    """The name of the exception's class."""
    message: str = ""


class Environment(Struct, kw_only=True):
    """The machine and the software of a run."""

    versions: dict[str, str]
    """Package -> installed version; `absent` where it is not installed."""
    code: str
    """Digest of the code of wavespeed_runner that can change results."""
    device: str
    """As torch names it: `cpu`, `cuda`, `cuda:1`, `mps`."""
    device_name: str
    """The model of the CPU or GPU."""
    driver: str | None
    platform: str
    threads: int
    """CPU threads that torch uses."""
    variables: dict[str, str]
    """Environment variables that are set and choose other kernels."""
    plugins: dict[str, str]
    """Installed plugin -> digest of its code."""
    commit: str | None
    """Git commit of wavespeed_runner, with `+` for uncommitted changes; null for an installed package."""
    devices: list[str] | UnsetType = UNSET
    """The model of each rank's CPU or GPU, by rank; left out where one process computed everything."""


class RuleVerdict(Struct, kw_only=True):
    """What a rule says about the configuration."""

    rule: str
    verdict: Literal["good", "unverified", "bad"]
    message: str
    fix: str
    source: str


class PlanChange(Struct, kw_only=True):
    """A value that was set automatically."""

    key: str
    value: Any
    why: str


class PlanSummary(Struct, kw_only=True):
    """What was planned before anything ran."""

    stages: list[str]
    """Names of the graph's nodes, in the order of the graph."""
    prompts: list[str]
    verdicts: list[RuleVerdict]
    changes: list[PlanChange]


class Reference(Struct, kw_only=True, omit_defaults=True):
    """What the results are compared with."""

    kind: Literal["run", "self", "none"]
    """`run`: a reference run. `self`: nothing lossy is on, so this run is the reference. `none`: not compared."""
    sampler: dict[str, Any] | None = None
    """Options of the sampler of a reference run; `default` is the model's own."""
    steps: int | None = None
    """Denoising steps of a reference run."""
    same_sampler: bool = False
    """The run's sampler is that of the reference by its name, such as `euler` for `default`."""


class PredictedSteps(Struct, kw_only=True):
    """What a calibration of this run predicts."""

    calibration: str
    """The calibration file."""
    computed_steps: list[int]
    """Counted from 1."""


class CacheSummary(Struct, kw_only=True):
    """Computed and cached steps over all images."""

    hits: int
    """Cached steps."""
    computed: int
    """Computed steps."""
    computed_steps: list[int | list[int]]
    """Counted from 1. One list where all images agree, else one list for each image."""
    hit_rate: Figure
    predicted: PredictedSteps | None
    """Null without a calibration of this run, and for schedules."""


class Timing(Struct, kw_only=True, omit_defaults=True):
    """Seconds of denoising one image, over all images and repetitions."""

    first_call: Figure | None
    """Of the first, untimed generation of the first image."""
    compile_seconds: Figure | None = None
    """Of compiling, in the warm-up of the first image."""
    raw: list[Figure]
    median: Figure | None
    p90: Figure | None
    """90th percentile."""
    mad: Figure | None
    """Median absolute deviation."""
    reference_raw: list[Figure] | None
    reference_median: Figure | None
    speedup: Figure | None
    """`reference_median` / `median`; null where the timing is void."""
    void: str | None = None
    """Why the timing means nothing: code was compiled, or fell back to eager, while it was taken."""
    same_run: bool | None
    """False where the speedup is a guess: reference and images were timed by different processes, more than 15 minutes
    apart, or while the machine was busy with something else."""


class MetricSummary(Struct, kw_only=True, omit_defaults=True):
    """One metric over all images."""

    mean: Figure | None
    ci95: Annotated[list[Figure], Meta(min_length=2, max_length=2)] | None
    """95 % bootstrap interval of the mean over images; null for a single image."""
    median: Figure | UnsetType | None = UNSET
    """Left out in records of earlier versions, as `p10`."""
    p10: Figure | UnsetType | None = UNSET
    """A tenth of the images are no better: the 10th percentile, or the 90th of `mae`."""
    worst: Figure | None


class QualitySummary(Struct, kw_only=True, omit_defaults=True):
    """Quality against the reference, over all images."""

    mae: MetricSummary
    mae_similarity: MetricSummary
    ssim: MetricSummary
    psnr: MetricSummary
    """Identical images are left out, which makes the mean pessimistic."""
    forks: int | None = None
    """Images with an SSIM below 0.9: they count as another image than their reference. Left out in records of earlier
    versions."""


class JudgeSummary(MetricSummary, kw_only=True):
    """What a judge of the config group `metrics` says of all images."""

    less_is_better: bool
    reference_mean: Figure | None = None
    """Of a judge that does not compare: the mean of what it says of the references."""


class NumericsFloor(Metrics, kw_only=True):
    """Means over the images of the reference in another precision against the reference."""

    what: str
    """The other precision, such as `bfloat16`."""


class NoiseFloor(Struct, kw_only=True):
    """How close the reference comes to itself. Differences smaller than this mean nothing."""

    latents_max_abs: Figure | None
    """Largest difference between the latents of repetitions of the reference."""
    repeat: Metrics | None
    """Means over the images of the reference, generated again."""
    numerics: NumericsFloor | None


class MemorySummary(Struct, kw_only=True):
    """Memory of a setting."""

    weight_bytes: int | None
    """Of all components, as they are stored while the pipeline runs."""
    peak_bytes: int | None
    """The largest of the images' `peak_memory_bytes`."""


class Record(Struct, kw_only=True, omit_defaults=True):
    """One run."""

    schema_version: Literal[2]
    status: Status
    """`interrupted` from the start on, so that a kill at any moment leaves a true record."""
    error: Failure | None
    fingerprint: str
    """Identifies everything that determines the images."""
    config: dict[str, Any]
    """The resolved configuration, plain data."""
    overrides: list[str]
    """As they were typed."""
    environment: Environment
    plan: PlanSummary
    reference: Reference
    engaged: Engaged
    stages: list[StageRun]
    """In the order in which they ran."""
    samples: list[SampleRecord]
    """Finished images, in order."""
    cache: CacheSummary | None
    timing: Timing | None
    quality: QualitySummary | None
    noise_floor: NoiseFloor | None
    warnings: list[str]
    memory: MemorySummary | None = None
    identity: str | None = None
    """Identifies everything that decides this record: images, timing, reference, judges and machine."""
    metrics: dict[str, JudgeSummary] | None = None
    """Judge of the config group `metrics` -> what it says of all images; left out without any."""
