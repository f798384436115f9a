"""Schedules that list their steps: in the config or as a published mask, or chosen on calibration runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...config.schema import PartConfig
from ...errors import ConfigError, Unfit
from ...registry import register
from . import published
from .schedule import Schedule


@dataclass(kw_only=True)
class Steps(PartConfig):
    """Options of `cache/criterion=steps`."""

    name: str = "steps"
    computed: list[int] | None = None
    """The computed steps, counted from 1 as in the record's `computed_steps`."""
    of: int | None = None
    """With `computed`: the number of steps that the list was made for; null: any number that contains it."""
    mask: str | None = None
    """Instead of `computed`: a character per step, 1 computed and 0 skipped, or the name of a published mask."""

    def __post_init__(self) -> None:
        """Refuses lists and masks that are malformed or contradict each other."""
        self._check_computed()
        if self.mask is not None and set(self.mask) <= {"0", "1"} and not self.mask.startswith("1"):
            raise ConfigError(f"cache.criterion.mask={self.mask}: must begin with 1: the first step is always computed")
        if self.computed is not None and self.mask is not None:
            raise Unfit(
                f"cache.criterion.computed={self.computed} cache.criterion.mask={self.mask}: only one of the two can "
                "take effect; set the other to null"
            )

    def _check_computed(self) -> None:
        if self.computed is None:
            if self.of is not None:
                raise ConfigError(f"cache.criterion.of={self.of}: only with cache.criterion.computed; leave it out")
            return
        if not self.computed or self.computed[0] != 1 or self.computed != sorted(set(self.computed)):
            raise ConfigError(
                f"cache.criterion.computed={self.computed}: steps in order, each once, from 1 on (the first is always "
                "computed)"
            )
        if self.of is not None and self.of < self.computed[-1]:
            raise ConfigError(f"cache.criterion.of={self.of}: the list goes on to step {self.computed[-1]}")


@register("cache/criterion", "steps", Steps)
class StepsCriterion(Schedule):
    """Computes the listed steps: cache-dit's masks, LeMiCa's lists, or the `computed_steps` of another record."""

    options: Steps

    def choose(self, steps: int) -> frozenset[int]:
        """The listed steps, if the list was made for this number of steps."""
        computed, made_for = self._read_list(steps)
        if computed is None:
            key = "mask" if self.options.mask is not None else "computed"
            raise Unfit(
                f"cache.criterion.{key}={getattr(self.options, key)}: made for {made_for} steps, and {steps} are run; "
                "run as many, or use cache/criterion=budget, which works with any number"
            )
        return frozenset(step - 1 for step in computed)

    def _read_list(self, steps: int) -> tuple[Sequence[int] | None, str]:
        """The computed steps, counted from 1, None if there is no list for so many steps; and for how many it is."""
        listed, of = self.options.computed, self.options.of
        if listed is not None:
            fits = steps == of if of is not None else steps >= listed[-1]
            return listed if fits else None, f"{listed[-1]} or more" if of is None else str(of)
        mask = self.options.mask
        if mask is None:
            raise ConfigError(
                "cache.criterion.computed=null: which steps? Give cache.criterion.computed=[1,...] or "
                f"cache.criterion.mask=NAME (published: {', '.join(published.load_masks())})"
            )
        if set(mask) <= {"0", "1"}:
            ones = [step for step, bit in enumerate(mask, 1) if bit == "1"]
            return ones if steps == len(mask) else None, str(len(mask))
        known = published.find_mask(mask)
        return known.choose(steps), known.fits


@dataclass(kw_only=True)
class PlannedSteps(PartConfig):
    """Options of `cache/criterion=planned`."""

    name: str = "planned"
    computed: int = 10
    """How many steps are computed."""
    first: int = 1
    """So many steps at the beginning are always computed, unless a search has found the schedule."""
    schedule: list[int] | None = None
    """The computed steps, counted from 1; null: the best ones according to the calibration."""

    def __post_init__(self) -> None:
        """Refuses numbers and schedules that contradict each other."""
        if not 1 <= self.first < self.computed:
            raise Unfit(
                f"cache.criterion.computed={self.computed} cache.criterion.first={self.first}: must be "
                "1 <= first < computed"
            )
        ordered = self.schedule is None or self.schedule == sorted(set(self.schedule))
        if self.schedule is not None and (len(self.schedule) != self.computed or self.schedule[0] != 1 or not ordered):
            raise Unfit(
                f"cache.criterion.schedule={self.schedule}: {self.computed} steps (cache.criterion.computed), counted "
                "from 1, the first among them; or null, to have them chosen"
            )


@register("cache/criterion", "planned", PlannedSteps)
class PlannedStepsCriterion(Schedule):
    """Computes a fixed number of steps that were chosen on calibration runs.

    Such schedules, found offline for a fixed budget, are those of DPCache and BudCache. How they are found here: see
    `calibration/best_schedule.py` and `calibration/schedule_search.py`.
    """

    options: PlannedSteps

    def choose(self, steps: int) -> frozenset[int]:
        """The chosen steps."""
        schedule = self.options.schedule
        if schedule is None:
            raise ConfigError("cache.criterion.schedule=null: choosing the steps takes a calibration of this run")
        if schedule[-1] > steps:
            raise Unfit(f"cache.criterion.schedule={schedule}: only {steps} steps are run")
        return frozenset(step - 1 for step in schedule)
