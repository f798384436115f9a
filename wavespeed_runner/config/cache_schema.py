"""The schema that all cache strategies share; strategies and their parts add options to it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


@dataclass(kw_only=True)
class PartConfig:
    """A signal, a criterion or a predictor of a cache strategy."""

    name: str = MISSING


class GuidanceBranches(Enum):
    """Who decides about reuse where a model is called once a step for each guidance branch."""

    separate = "separate"
    """Each branch for itself."""
    first = "first"
    """The first branch for all."""


@dataclass(kw_only=True)
class CacheConfig:
    """A cache strategy: signal x criterion x predictor, inside a window of the steps."""

    name: str = MISSING
    signal: PartConfig | None = None
    criterion: PartConfig | None = None
    predictor: PartConfig | None = None
    start: float = 0.0
    """Fraction of the steps: step i of n, counted from 0, may be skipped iff start <= i/n < end."""
    end: float = 1.0
    """From here on all steps are computed; see start."""
    max_consecutive_cache_hits: int = -1
    """At most so many skipped steps in a row; -1: no limit."""
    max_cache_hits: int = -1
    """At most so many skipped steps in all; -1: no limit."""
    warmup_steps: int = 0
    """So many first steps are always computed; at 0, the very first one still is."""
    force_last_step: bool = False
    """True: the last step is always computed."""
    tail_blocks: int = 0
    """So many last blocks of a transformer always run."""
    depth: int | None = None
    """U-Nets: so many of the outermost layers always run, on the way down and on the way up; the deeper ones are
    skipped. Null: the first layers run (`cache.signal.blocks`) and all others are skipped."""
    guidance_branches: GuidanceBranches = GuidanceBranches.separate
    """Where each guidance branch is a call of its own: each decides for itself, or the first of a step for all."""
    calibration: str | None = None
    """A file that `python -m wavespeed_runner calibrate` wrote. Null: one that fits, if a part needs it."""
    calibrated_for: str | None = None
    """Set automatically: the run that the strategy's calibrated numbers belong to. Any other run is refused."""
    chosen_as: str | None = None
    """Set automatically: the name of the option's file, where that is another than the strategy's. Plans, records and
    reports call a preset so, and a strategy of the user's."""

    @property
    def title(self) -> str:
        """What people call this strategy: as it was chosen."""
        return self.chosen_as or self.name
