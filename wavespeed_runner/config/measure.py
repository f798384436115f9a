"""The config group `measure`: what a run is compared with, and how it is timed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from .solver import NAME as FITTED


class NoiseFloor(Enum):
    """How the reference is generated once more, to know how much of a difference is noise."""

    none = "none"
    repeat = "repeat"
    """Once more from scratch."""
    full = "full"
    """That, and in the other precision: bfloat16 for float32 models, float32 for the others."""


class ReferenceSampler(Enum):
    """Which sampler makes the reference."""

    same = "same"
    """The run's."""
    own = "own"
    """The model's own, as `sampler=default`, and with the model's own number of steps."""


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
    """Steps of the reference; null: the run's own, or with `reference_sampler=own` the model's. More of them judge
    "fewer steps without cache" as a cache is."""
    reference_sampler: ReferenceSampler | None = None
    """`own` judges another solver or spacing, and fewer steps, against what the model was made for. Null: `same`,
    and `own` for `sampler=fitted`."""
    in_turn: bool = False
    """Denoise an image and its reference again, one right after the other, even if the store has them. Otherwise a
    result from the store keeps the time it took for an earlier job, and on a machine that has become busier or cooler
    since, a speed-up against it means nothing; see `same_run` in the record."""
    noise_floor: NoiseFloor = NoiseFloor.none
    """How close the reference comes to itself. Generated after everything that is timed."""


def has_own_reference(config: Any) -> bool:
    """Whether the reference is made with the model's own sampler and steps: says what a null means.

    Args:
        config: the typed `Config` of the run, of which this file knows a part.
    """
    # A fitted sampler stands for the model's own one, and by itself there would be nothing to see of it.
    usual = ReferenceSampler.own if config.sampler.name == FITTED else ReferenceSampler.same
    chosen: ReferenceSampler = config.measure.reference_sampler or usual
    return chosen is ReferenceSampler.own


def find_reference_steps(config: Any) -> int | None:
    """The steps of the reference; None where they are the run's, which are not filled in yet.

    Args:
        config: as above.
    """
    usual = config.model.steps if has_own_reference(config) else config.steps
    return config.measure.reference_steps or usual
