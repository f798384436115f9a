"""Schedules by formula: every n-th step, or a fixed number of steps with growing gaps; and one that never skips."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import ceil

from ...config.limits import MAX_STEPS
from ...config.schema import PartConfig
from ...errors import ConfigError, Unfit
from ...registry import register
from ..interfaces import StepInfo
from .schedule import Schedule
from .spacing import space_around_center, space_growing

MAX_POWER = 100.0
"""Of a spacing: it is lowered in small steps, and published ones are below 2."""


@dataclass(kw_only=True)
class Never(PartConfig):
    """Options of `cache/criterion=never`: there are none."""

    name: str = "never"


@register("cache/criterion", "never", Never)
class NeverCriterion(Schedule):
    """Skips no step: for recording what a strategy would see."""

    def choose(self, steps: int) -> frozenset[int]:
        """Every step."""
        return frozenset(range(steps))


class Spacing(Enum):
    """Where the intervals of computed steps are counted from."""

    uniform = "uniform"
    """From `start`."""
    since_computed = "since_computed"
    """From the last computed step, including steps that the window forced."""
    in_window = "in_window"
    """From the first step inside of the window, whatever `cache.window` counts."""
    after_warmup = "after_warmup"
    """From the second step after the warm-up, as diffusers' TaylorSeer does."""
    non_uniform = "non_uniform"
    """The same number of computed steps, but closer together around `center`."""


@dataclass(kw_only=True)
class Interval(PartConfig):
    """Options of `cache/criterion=interval`."""

    name: str = "interval"
    interval: int = 3
    """n, where every n-th step is computed; 1 computes all."""
    start: float = 0.0
    """Where the first interval begins, as a fraction of the steps; the window's start."""
    warmup: int = 0
    """For after_warmup: the length of the warm-up; the window's `warmup_steps`."""
    spacing: Spacing = Spacing.uniform
    center: int = 15
    """For non_uniform: the step, counted from 0, around which computed steps are closest together."""
    power: float = 1.4
    """For non_uniform: how much closer; above 1. Lowered in steps of 0.02 until the number of computed steps is
    right."""

    def __post_init__(self) -> None:
        """Refuses values that are out of range or would have no effect."""
        if self.interval < 1:
            raise ConfigError(f"cache.criterion.interval={self.interval}: 1 or more; 1 computes every step")
        if not 1 < self.power <= MAX_POWER:
            raise ConfigError(
                f"cache.criterion.power={self.power}: above 1, at most {MAX_POWER:g}; or use spacing=uniform"
            )
        if self.warmup < 0:
            raise ConfigError(f"cache.criterion.warmup={self.warmup}: 0 or more steps")
        if not 0 <= self.center <= MAX_STEPS:
            raise ConfigError(f"cache.criterion.center={self.center}: a step, counted from 0")
        if self.spacing is not Spacing.non_uniform and (self.center, self.power) != (Interval.center, Interval.power):
            raise Unfit(
                f"cache.criterion.center={self.center} cache.criterion.power={self.power}: they could not take effect "
                f"with cache.criterion.spacing={self.spacing.value}; leave them out, or use spacing=non_uniform"
            )


@register("cache/criterion", "interval", Interval)
class IntervalCriterion(Schedule):
    """Computes every `interval`-th step.

    Rule of DeepCache (https://arxiv.org/abs/2312.00858: uniform and non_uniform) and of TaylorSeer
    (https://arxiv.org/abs/2503.06923: since_computed, after its warm-up; diffusers' `TaylorSeerCacheConfig`:
    after_warmup).
    """

    options: Interval

    def __init__(self, options: Interval) -> None:
        """Starts before the first step."""
        super().__init__(options)
        self.last_computed = self.first_inside = 0

    def choose(self, steps: int) -> frozenset[int]:
        """Every `interval`-th step from `start` on, and all before it; or counted otherwise, see `Spacing`."""
        interval = self.options.interval
        if self.options.spacing is Spacing.after_warmup:
            return frozenset(step for step in range(steps) if (step - self.options.warmup - 1) % interval == 0)
        if self.options.spacing is Spacing.non_uniform and interval > 1:
            count = ceil(steps / interval)
            return space_around_center(steps, count, self.options.center, self.options.power)
        first = next((step for step in range(steps) if step / steps >= self.options.start), steps)
        return frozenset(step for step in range(steps) if step < first or (step - first) % interval == 0)

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """True between two computed steps of the spacing."""
        if self.options.spacing is Spacing.since_computed:
            return at.step - self.last_computed < self.options.interval
        if self.options.spacing is Spacing.in_window:
            return (at.step - self.first_inside) % self.options.interval != 0
        return super().should_reuse(numbers, at)

    def pass_by(self, numbers: tuple[float, ...] | None, at: StepInfo) -> None:
        """The window has not begun, or has ended."""
        self.first_inside = at.step + 1

    def record_computed(self, at: StepInfo) -> None:
        """Starts a new interval."""
        self.last_computed = at.step


@dataclass(kw_only=True)
class Budget(PartConfig):
    """Options of `cache/criterion=budget`."""

    name: str = "budget"
    computed: int | None = None
    """How many steps are computed; null: see `share`."""
    share: float | None = 0.4
    """Fraction of the steps that is computed, rounded, at least one step; null: see `computed`."""
    warmup: int = 4
    """So many steps at the beginning are always computed, because they settle the layout of the image."""
    power: float = 1.5
    """How fast the gaps grow: of m steps after the warm-up, the i-th is about (i/m)^power of the way; 1: even gaps."""
    largest_gap: int = -1
    """Largest distance between two computed steps; -1: no limit."""

    def __post_init__(self) -> None:
        """Refuses values that are out of range or contradict each other."""
        if (self.computed is None) == (self.share is None):
            raise ConfigError(
                f"cache.criterion.computed={self.computed} cache.criterion.share={self.share}: one of the two is "
                "needed; set the other to null"
            )
        if self.computed is not None and self.computed < 1:
            raise ConfigError(f"cache.criterion.computed={self.computed}: 1 step or more")
        if self.share is not None and not 0 < self.share <= 1:
            raise ConfigError(f"cache.criterion.share={self.share}: above 0, at most 1 (every step)")
        if self.warmup < 1:
            raise ConfigError(f"cache.criterion.warmup={self.warmup}: 1 or more: the first step is always computed")
        if not 1 <= self.power <= MAX_POWER:
            raise ConfigError(
                f"cache.criterion.power={self.power}: 1 (even gaps) or more (growing gaps), at most {MAX_POWER:g}"
            )
        if self.largest_gap < 1 and self.largest_gap != -1:
            raise ConfigError(f"cache.criterion.largest_gap={self.largest_gap}: 1 or more, or -1 for no limit")


@register("cache/criterion", "budget", Budget)
class BudgetCriterion(Schedule):
    """Computes a fixed number of steps of any schedule: the first ones, the last one, growing gaps in between.

    The shape follows published hand-made masks (cache-dit's, the beginnings of LeMiCa's); the formula is our own.
    """

    options: Budget

    def choose(self, steps: int) -> frozenset[int]:
        """The steps by formula, as many as the budget says."""
        computed, share = self.options.computed, self.options.share
        count = computed if computed is not None else max(1, round((share or 1.0) * steps))
        if count > steps:
            raise Unfit(f"cache.criterion.computed={count}: only {steps} steps are run; at most as many")
        return space_growing(steps, count, self.options.warmup, self.options.power, self.options.largest_gap)
