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


class Window(Enum):
    """What `start` and `end` of a cache strategy are fractions of."""

    steps = "steps"
    """Of the steps: i/n for step i of n, counted from 0."""
    timesteps = "timesteps"
    """Of the training timesteps that the denoiser is given: 1 - t/1000."""
    sigmas = "sigmas"
    """Of the training time whose noise level a step has, as ComfyUI's `percent_to_sigma` has it: where more steps lie
    at high noise levels, more of them lie before `start`."""


class Rounding(Enum):
    """What number of steps `start` stands for, where start x steps is no whole number."""

    up = "up"
    """The next whole number."""
    nearest = "nearest"
    """The nearest one, halves up."""
    down = "down"
    """The whole number below."""


@dataclass(kw_only=True)
class CacheConfig:
    """A cache strategy: signal x criterion x predictor, inside a window of the steps."""

    name: str = MISSING
    signal: PartConfig | None = None
    criterion: PartConfig | None = None
    predictor: PartConfig | None = None
    window: Window = Window.steps
    """What start and end are fractions of: 0 is the beginning of sampling, 1 its end."""
    start: float = 0.0
    """Fraction of the steps: step i of n, counted from 0, may be skipped iff start <= i/n < end; see window."""
    start_rounding: Rounding = Rounding.up
    """window=steps: how start x steps becomes the number of first steps that are computed: up, as said there; nearest,
    as in diffusers' MagCache; or down."""
    end: float = 1.0
    """From here on all steps are computed; see start. With window=timesteps or sigmas the end itself is inside."""
    include_end: bool = False
    """window=steps: true: a step at which i/n is the end itself may be skipped, too."""
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
    whole_output: bool = False
    """U-Nets without depth: true: a skipped step takes what all skipped layers gave last, instead of adding their
    residual. Where no layer runs (`cache/signal=none`), that is the denoiser's last output, whole."""
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
