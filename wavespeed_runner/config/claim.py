"""The config key `claim`: the figures that an exported experiment states, for `replay` to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING


@dataclass(kw_only=True)
class ClaimedFigure:
    """A figure with its 95 % confidence bounds, as far as they are known."""

    value: float = MISSING
    low: float | None = None
    high: float | None = None
    median: float | None = None
    """Of single images, as the next two."""
    p10: float | None = None
    """A tenth of the images are no better."""
    worst: float | None = None
    noise_floor: float | None = None
    """The lowest quality (for MAE the largest distance) of the reference against itself, see `NoiseFloor`."""
    repeat_floor: float | None = None
    """The same on the same machine in the same precision. Of timings: the median absolute deviation of repetitions of
    the same work."""
    mad: float | None = None
    """Of timings: the median absolute deviation of all, as in results.csv."""


@dataclass(kw_only=True)
class ClaimConfig:
    """What an exported experiment says of itself. Computes nothing; `replay` compares with it."""

    seconds: ClaimedFigure | None = None
    """Denoising an image, median."""
    speedup: ClaimedFigure | None = None
    """Against the reference."""
    ssim: ClaimedFigure | None = None
    mae_similarity: ClaimedFigure | None = None
    mae: ClaimedFigure | None = None
    psnr: ClaimedFigure | None = None
    metrics: dict[str, ClaimedFigure] = field(default_factory=dict)
    """Judge of the config group `metrics` -> its figure."""
    forks: int | None = None
    """Images with an SSIM below 0.9: they count as another image than their reference."""
    reference: str | None = None
    """What the quality and the speed-up are against: `28 steps of default`. Null in claims of earlier versions."""
    computed_share: float | None = None
    """Of the blocks' FLOPs where they were counted, otherwise of the steps."""
    prompts: int = MISSING
    pixels_sha256: list[str] = field(default_factory=list)
    """Of each image, in the order of the prompts and their seeds."""
    prompts_sha256: str = MISSING
    """Of the prompts, one a line."""
    fingerprint: str = MISSING
    device_name: str = MISSING
    code: str = MISSING
    """Digest of the code that determines the images."""
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
