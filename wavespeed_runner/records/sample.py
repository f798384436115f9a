"""The part of a record that is about one image: what ran for it, what was computed, and how good it is."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

Figure = Annotated[float, Meta(gt=-1e12, lt=1e12)]
"""A time in seconds, or a quality metric. Nothing that a run measures is outside of these bounds."""
Source = Literal["computed", "store"]
"""`computed`: by this run. `store`: by an earlier run, and read from the store."""


class CacheEvidence(Struct, kw_only=True, omit_defaults=True):
    """What the hooks of a cache strategy counted: proof that it took effect."""

    strategy: str
    attached_to: str
    """Class of the denoiser."""
    blocks: int | None = None
    """Blocks of the denoiser that the strategy watches."""
    modules: int | None = None
    """Attention modules that were hooked, for diffusers' own strategies, which skip attention inside a step."""
    calls: int
    """Calls of the denoiser; of the hooked modules where `modules` is given."""
    hits: int
    """Calls that were not computed."""
    block_share: Figure | None = None
    """Share of the blocks that ran."""
    module_share: Figure | None = None
    """Share of the module calls that were computed."""
    block_flops: int | None
    """FLOPs of the blocks if every call had been computed; null where they were not counted."""
    flop_share: Figure | None
    """Share of `block_flops` that was computed."""
    denoiser_flops: int | None
    """FLOPs of the whole denoiser if every call had been computed."""
    denoiser_flop_share: Figure | None
    """Share of `denoiser_flops` that was computed."""
    flops_missing: str | None = None
    """Why FLOPs were not counted."""


class Engaged(Struct, kw_only=True):
    """Evidence that each option took effect; null for an option that is off."""

    cache: CacheEvidence | None = None
    adapters: dict[str, Any] | None = None
    quant: dict[str, Any] | None = None
    attention: dict[str, Any] | None = None
    compile: dict[str, Any] | None = None
    accelerate: dict[str, Any] | None = None
    memory: dict[str, Any] | None = None
    parallel: dict[str, Any] | None = None
    """With several ranks: `backend` of their messages, and `ranks` with the device and host of each and, where they
    share an image, `peak_memory_bytes` of each, as in the sample (over all images: of the first). With `parallel.vae`
    also `tiles`: how many of an image each rank has decoded, and what rank 0 sent for it."""
    prompts: dict[str, Any] | UnsetType = UNSET
    """`prompt` and `negative_prompt` -> tokens and chunks that were read, and the weights; left out where
    `prompts.weighting` and `prompts.chunked` are off. Over all images: of the first."""
    weights: dict[str, int] | None = None
    """Component -> bytes of its weights, as they are stored while it runs; null in records of earlier versions."""
    plugins: dict[str, Any] | UnsetType = UNSET
    """What stages of plugins put into `Pipeline.engaged` under names of their own; left out without any."""


class StageRun(Struct, kw_only=True):
    """One execution of one stage for one image."""

    name: str
    """The graph's node."""
    sample: int
    """Index of the image, counted from 0."""
    seconds: Figure
    """Of images that were computed together, each has its share."""
    source: Source
    peak_memory_bytes: int | None
    """Null where the value came from the store, or where the system does not tell."""
    of: str
    """`run`, `reference`, or the kind of noise floor: `repeat`, `numerics`."""
    rank: int | UnsetType = UNSET
    """With `parallel=data`, the rank that ran it."""


class BranchDecision(Struct, kw_only=True):
    """What the cache strategy decided at a step in one guidance branch."""

    computed: bool
    signal: float | None
    """How much the watched signal has changed, relative to what may be next to nothing: of any size."""
    level: float | None
    """The value that was compared with the threshold; null where nothing was compared."""


class Step(Struct, kw_only=True, omit_defaults=True):
    """One step of the sampler."""

    index: int
    """Counted from 1."""
    computed: bool
    """False where every guidance branch was taken from the cache."""
    signal: float | None
    """Of the first guidance branch: how much the watched signal has changed."""
    level: float | None
    """Of the first guidance branch: the value that was compared with the threshold."""
    seconds: Figure
    branches: dict[str, BranchDecision] | None = None
    """The decision in each guidance branch, where there are several."""
    stage: str
    """The denoising node of the graph."""
    outside_window: bool = False
    """True where a window over timesteps or noise levels (`cache.window`) has the step computed."""


class Metrics(Struct, kw_only=True):
    """Quality metrics of one image against its reference."""

    mae: Figure | None
    """Mean absolute error on the 0-255 scale."""
    mae_similarity: Figure | None
    """1 - MAE / 255."""
    ssim: Figure | None
    psnr: Figure | None
    """In dB; null for identical images, where it is infinite."""


class SampleRecord(Struct, kw_only=True, omit_defaults=True):
    """One image or video."""

    prompt: str
    seed: int
    seconds: Figure
    """Of denoising, median of the repetitions."""
    raw_seconds: list[Figure]
    """Of denoising, one value for each repetition."""
    first_call: Figure | None
    """Seconds of the first, untimed generation, with its warm-up costs; null without one."""
    compile_seconds: Figure | None = None
    """Seconds of compiling in the warm-up; null where nothing is compiled or was warmed up."""
    timing_void: str | None = None
    """Why the times mean nothing: code was compiled, or fell back to eager, while they were taken."""
    steps: list[Step]
    engaged: dict[str, Engaged]
    """Denoising node -> what was engaged in it."""
    quality: Metrics | None
    """Null where it was not compared. Of a video, the means over its frames."""
    timed_together: bool | None = None
    """Whether reference and image were timed by one process, less than 15 minutes apart."""
    timed_beside: int | None = None
    """Ranks of `parallel=data` that shared the CPU's cores while image or reference were timed, this one included: the
    times are longer than those of one process."""
    reference_seconds: Figure | None = None
    reference_raw_seconds: list[Figure] | None = None
    reference_steps: int | None = None
    reference_spread: Figure | UnsetType | None = UNSET
    """Largest absolute difference between the latents of repetitions of the reference; 0 where the machine repeats
    itself, null where it was generated once."""
    source: Source
    """Whether this run denoised the image."""
    reference_source: Source | None = None
    rank: int | None = None
    """With `parallel=data`, the rank that denoised the image in this run."""
    file: str
    """Relative to the folder of the record."""
    pixels_sha256: str
    """Digest of the pixels, before they were encoded."""
    sha256: str
    """Digest of the file."""
    frames: int | None = None
    fps: int | None = None
    quality_worst_frame: Metrics | None = None
    """Each metric's worst value among the frames of a video."""
    metrics: dict[str, Figure] | None = None
    """Judge of the config group `metrics` -> its value; of a video the mean over its frames. Left out without any."""
    metrics_worst_frame: dict[str, Figure] | None = None
    """The worst value among the frames of a video, or among its pairs of frames."""
    metrics_of_reference: dict[str, Figure] | None = None
    """What judges that do not compare say of the reference."""
    peak_memory_bytes: int | None = None
    """At the peak of denoising, without the weights of other pipelines in the process. On CUDA what torch allocated on
    the device; elsewhere the resident memory of the process."""
    noise_floor: dict[str, Metrics] | None = None
    """`repeat`, `numerics` -> the reference, generated again in this way, against itself."""
