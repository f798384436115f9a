"""The config group `measure`: what a run is compared with, and how it is timed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class NoiseFloor(Enum):
    """How the reference is generated once more, to know how much of a difference is noise."""

    none = "none"
    repeat = "repeat"
    """Once more from scratch."""
    full = "full"
    """That, and in the other precision: bfloat16 for float32 models, float32 for the others."""


@dataclass(kw_only=True)
class MeasureConfig:
    """Options of the group `measure`."""

    reference: bool = True
    """Generate the same images with every lossy option off, and compare."""
    warmup: int = 1
    """Whole generations before the first timed one of each setting; they are not part of the figures."""
    repeats: int = 1
    """Timed generations of each image."""
    difference_gain: float = 4.0
    """Difference images show gain * |image - reference|, clipped at white."""
    reference_steps: int | None = None
    """Steps of the reference; null: the run's own. More of them judge "fewer steps without cache" as a cache is."""
    in_turn: bool = False
    """Denoise an image and its reference again, one right after the other, even if the store has them. Otherwise a
    result from the store keeps the time it took for an earlier job, and on a machine that has become busier or cooler
    since, a speed-up against it means nothing; see `same_run` in the record."""
    noise_floor: NoiseFloor = NoiseFloor.none
    """How close the reference comes to itself. Generated after everything that is timed."""
