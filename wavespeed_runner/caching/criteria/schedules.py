"""Criteria that watch nothing: which steps are computed is known before the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from math import ceil, nan
from typing import Any, ClassVar

from ...config.schema import CacheConfig, PartConfig
from ...errors import ConfigError, Unfit
from ...registry import implementation_of, register
from ..interfaces import StepInfo
from ..window import CacheHits, is_inside_window, is_reuse_allowed
from . import published
from .spacing import space_around_center, space_growing


class Schedule:
    """Skips the steps that are not in `computed_of(options, steps)`."""

    watches: ClassVar[str] = "nothing"
    level: float | None = None

    def __init__(self, options: PartConfig) -> None:
        self.options = options

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        return at.step not in choose_steps(self.options, at.steps)

    def record_computed(self, at: StepInfo) -> None:
        pass


def choose_steps(options: PartConfig, steps: int) -> frozenset[int]:
    """Steps, counted from 0, that a schedule computes by itself; the window and its limit may add others.

    Raises:
        ConfigError: it cannot be made for so many steps.
    """
    return MAKERS[options.name](options, steps)


def explain_misfit(options: PartConfig | None, steps: int) -> str:
    """Why a criterion's schedule cannot be made for so many steps; empty: it can, or it is no schedule. For rules."""
    if (
        options is None
        or options.name not in MAKERS
        or (isinstance(options, PlannedSteps) and options.schedule is None)
    ):
        return ""
    try:
        choose_steps(options, steps)
    except ConfigError as error:
        return str(error)
    return ""


def list_scheduled_steps(options: PartConfig, steps: int, window: CacheConfig) -> list[int] | None:
    """Steps, counted from 1, that will be computed under this criterion; None where it depends on what it watches.

    Raises:
        ConfigError: the schedule does not fit so many steps, or lacks values that a calibration gives.
    """
    made = implementation_of("cache/criterion", options)
    if made.watches != "nothing":
        return None
    criterion = made(options)
    computed: list[int] = []
    hits = CacheHits()
    for step in range(steps):
        at = StepInfo(step=step, steps=steps, sigma=nan)
        skipped = step > 0 and is_reuse_allowed(window, step, steps, hits) and criterion.should_reuse((), at)
        hits.count(skipped)
        if not skipped:
            criterion.record_computed(at)
            computed.append(step + 1)
    return computed


@dataclass(kw_only=True)
class Never(PartConfig):
    name: str = "never"


@register("cache/criterion", "never", Never)
class NeverCriterion(Schedule):
    """No step is skipped: for recording what a strategy would see."""


def _all(options: Never, steps: int) -> frozenset[int]:
    return frozenset(range(steps))


class Spacing(Enum):
    """From where intervals are counted."""

    uniform = "uniform"
    """From `start`."""
    since_computed = "since_computed"
    """From the last computed step, also one that the window forced."""
    non_uniform = "non_uniform"
    """As many computed steps, closer together around `center`."""


@dataclass(kw_only=True)
class Interval(PartConfig):
    name: str = "interval"
    interval: int = 3
    """Every so many steps one is computed; 1: all."""
    start: float = 0.0
    """Where the first interval begins, as a fraction of the steps: the window's start."""
    spacing: Spacing = Spacing.uniform
    center: int = 15
    """Of non_uniform spacing: around this step, counted from 0, computed steps are closest."""
    power: float = 1.4
    """Of non_uniform spacing: how much closer; above 1. Lowered by 0.02 until the number of steps comes out."""

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ConfigError(f"cache.criterion.interval={self.interval}: 1 or more; 1 computes every step")
        if self.power <= 1:
            raise ConfigError(f"cache.criterion.power={self.power}: must be above 1; or spacing=uniform")
        if self.center < 0:
            raise ConfigError(f"cache.criterion.center={self.center}: a step, counted from 0")
        if self.spacing is not Spacing.non_uniform and (self.center, self.power) != (Interval.center, Interval.power):
            raise Unfit(
                f"cache.criterion.center={self.center} cache.criterion.power={self.power}: they could not take effect "
                f"with cache.criterion.spacing={self.spacing.value}; leave them out, or spacing=non_uniform"
            )


@register("cache/criterion", "interval", Interval)
class IntervalCriterion(Schedule):
    """Every `interval`-th step is computed.

    Rule of DeepCache (https://arxiv.org/abs/2312.00858: uniform and non_uniform) and of TaylorSeer
    (https://arxiv.org/abs/2503.06923: since_computed, behind its warm-up).
    """

    def __init__(self, options: Interval) -> None:
        super().__init__(options)
        self.since = options.interval if options.spacing is Spacing.since_computed else None
        self.last = 0

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        return super().should_reuse(numbers, at) if self.since is None else at.step - self.last < self.since

    def record_computed(self, at: StepInfo) -> None:
        self.last = at.step


def _at_intervals(options: Interval, steps: int) -> frozenset[int]:
    if options.spacing is Spacing.non_uniform and options.interval > 1:
        return space_around_center(steps, ceil(steps / options.interval), options.center, options.power)
    window = CacheConfig(start=options.start)
    first = next((step for step in range(steps) if is_inside_window(window, step, steps)), steps)
    return frozenset(step for step in range(steps) if step < first or (step - first) % options.interval == 0)


@dataclass(kw_only=True)
class Steps(PartConfig):
    name: str = "steps"
    computed: list[int] | None = None
    """The computed steps, counted from 1 as in the record's `computed_steps`."""
    of: int | None = None
    """With `computed`: the number of steps that the list was made for; null: any that holds it."""
    mask: str | None = None
    """Instead of `computed`: one character a step, 1 computed and 0 skipped, or the name of a published mask."""

    def __post_init__(self) -> None:
        if self.computed is not None and (
            not self.computed or self.computed[0] != 1 or self.computed != sorted(set(self.computed))
        ):
            raise ConfigError(
                f"cache.criterion.computed={self.computed}: steps in order, each once, from 1 on (the first is always "
                "computed)"
            )
        if self.mask is not None and set(self.mask) <= {"0", "1"} and not self.mask.startswith("1"):
            raise ConfigError(f"cache.criterion.mask={self.mask}: must begin with 1: the first step is always computed")
        if self.computed is not None and self.mask is not None:
            raise Unfit(
                f"cache.criterion.computed={self.computed} cache.criterion.mask={self.mask}: only one of the two can "
                "take effect; set the other to null"
            )
        if self.of is not None and self.computed is None:
            raise ConfigError(f"cache.criterion.of={self.of}: only with cache.criterion.computed; leave it out")
        if self.of is not None and self.computed is not None and self.of < self.computed[-1]:
            raise ConfigError(f"cache.criterion.of={self.of}: the list goes on to step {self.computed[-1]}")


@register("cache/criterion", "steps", Steps)
class StepsCriterion(Schedule):
    """The listed steps are computed: cache-dit's masks, LeMiCa's lists, or the `computed_steps` of another record."""


def _listed(options: Steps, steps: int) -> frozenset[int]:
    listed, of = _spelled_out(options)
    if (of is not None and of != steps) or listed[-1] > steps:
        made_for = of if of is not None else f"{listed[-1]} or more"
        key = "mask" if options.mask is not None else "computed"
        value = options.mask if options.mask is not None else options.computed
        raise Unfit(
            f"cache.criterion.{key}={value}: made for {made_for} steps, and {steps} are run; use as many, or "
            "cache/criterion=budget, which is made for any number"
        )
    return frozenset(step - 1 for step in listed)


def _spelled_out(options: Steps) -> tuple[list[int], int | None]:
    """The computed steps, counted from 1, and the number of steps that they were chosen for."""
    if options.computed is not None:
        return options.computed, options.of
    if options.mask is None:
        raise ConfigError(
            "cache.criterion.computed=null: which steps? Give cache.criterion.computed=[1,...] or "
            f"cache.criterion.mask=NAME (published: {', '.join(published.load_masks())})"
        )
    if set(options.mask) <= {"0", "1"}:
        return [index + 1 for index, bit in enumerate(options.mask) if bit == "1"], len(options.mask)
    mask = published.find_mask(options.mask)
    return mask.computed, mask.steps


@dataclass(kw_only=True)
class Budget(PartConfig):
    name: str = "budget"
    computed: int | None = None
    """How many steps are computed; null: `share` of them."""
    share: float | None = 0.4
    """Which part of the steps is computed, rounded, at least one; null: `computed`."""
    warmup: int = 4
    """So many steps at the beginning are always computed: there the image's layout is settled."""
    power: float = 1.5
    """How fast the gaps grow: of m steps behind the warm-up the i-th lies at about (i/m)^power of the way; 1: even."""
    largest_gap: int = -1
    """No computed step lies further than this behind the one before; -1: no limit."""

    def __post_init__(self) -> None:
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
        if self.power < 1:
            raise ConfigError(f"cache.criterion.power={self.power}: 1 (even gaps) or more (growing)")
        if self.largest_gap < 1 and self.largest_gap != -1:
            raise ConfigError(f"cache.criterion.largest_gap={self.largest_gap}: 1 or more, or -1 for no limit")


@register("cache/criterion", "budget", Budget)
class BudgetCriterion(Schedule):
    """A fixed number of computed steps for any length of schedule: the first ones, the last, between them growing gaps.

    The shape of the published hand-made masks (cache-dit's, LeMiCa's beginnings), by a formula of our own.
    """


def _within_budget(options: Budget, steps: int) -> frozenset[int]:
    count = options.computed if options.computed is not None else max(1, round((options.share or 1.0) * steps))
    if count > steps:
        raise Unfit(f"cache.criterion.computed={count}: only {steps} steps are run; at most as many")
    return space_growing(steps, count, options.warmup, options.power, options.largest_gap)


@dataclass(kw_only=True)
class PlannedSteps(PartConfig):
    name: str = "planned"
    computed: int = 10
    """How many steps are computed."""
    first: int = 1
    """So many steps at the beginning are always computed; for schedules that no search has found."""
    schedule: list[int] | None = None
    """The computed steps, counted from 1; null: those that the calibration knows to be best for so many."""

    def __post_init__(self) -> None:
        if not 1 <= self.first < self.computed:
            raise Unfit(
                f"cache.criterion.computed={self.computed} cache.criterion.first={self.first}: 1 <= first < computed "
                "is needed"
            )
        ordered = self.schedule is None or self.schedule == sorted(set(self.schedule))
        if self.schedule is not None and (len(self.schedule) != self.computed or self.schedule[0] != 1 or not ordered):
            raise Unfit(
                f"cache.criterion.schedule={self.schedule}: {self.computed} steps (cache.criterion.computed), counted "
                "from 1, the first among them; or null, to have them chosen"
            )


@register("cache/criterion", "planned", PlannedSteps)
class PlannedStepsCriterion(Schedule):
    """So many steps are computed; which ones is chosen on calibration runs, see `filling.py`.

    A schedule found offline for a fixed budget, as in DPCache and BudCache; how, see `fitted.best_schedule` and
    `searching.py`.
    """


def _planned(options: PlannedSteps, steps: int) -> frozenset[int]:
    if options.schedule is None:
        raise ConfigError("cache.criterion.schedule=null: it takes a calibration of this run to choose the steps")
    if options.schedule[-1] > steps:
        raise Unfit(f"cache.criterion.schedule={options.schedule}: only {steps} steps are run")
    return frozenset(step - 1 for step in options.schedule)


MAKERS: dict[str, Callable[[Any, int], frozenset[int]]] = {
    "never": _all,
    "interval": _at_intervals,
    "steps": _listed,
    "budget": _within_budget,
    "planned": _planned,
}
"""Of each schedule, by name: (options, number of steps) -> the computed steps, counted from 0."""
