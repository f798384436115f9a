"""Options of the denoise stage. Defined below the stage, because calibrations and rules read them too."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ConfigError
from .schema import CacheConfig, SamplerConfig, top_level


@dataclass(kw_only=True)
class DenoiseOptions:
    """Options of the denoise stage; each follows the top-level value of its name."""

    steps: int = top_level("steps")
    guidance_scale: float | None = top_level("guidance_scale")
    width: int = top_level("width")
    height: int = top_level("height")
    num_frames: int | None = top_level("num_frames")
    strength: float = top_level("strength")
    """How much of the schedule runs if the stage starts from an image; otherwise unused."""
    sampler: SamplerConfig = top_level("sampler")
    cache: CacheConfig = top_level("cache")
    batch_size: int = top_level("batch_size")
    warmup: int = top_level("measure.warmup")
    repeats: int = top_level("measure.repeats")

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.repeats < 1 or self.batch_size < 1:
            raise ConfigError(
                f"warmup={self.warmup} repeats={self.repeats} batch_size={self.batch_size}: no negative warm-up, and "
                "at least 1 of the others"
            )
