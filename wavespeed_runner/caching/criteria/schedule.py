"""What all schedules share: criteria that watch nothing, so the steps they compute are known before the run."""

from __future__ import annotations

from math import nan
from typing import Any, ClassVar, TypeGuard

from ...config.schema import CacheConfig, PartConfig, Window
from ...errors import ConfigError
from ...registry import find_implementation
from ..interfaces import StepInfo
from ..window import CacheHits, ask


class Schedule:
    """A criterion that skips every step that `choose` does not name."""

    watches: ClassVar[str] = "nothing"
    level: float | None = None

    def __init__(self, options: Any) -> None:
        """Takes the options class that it was registered with."""
        self.options = options

    def choose(self, steps: int) -> frozenset[int]:
        """The steps to compute, counted from 0; window and limits may force others.

        Raises:
            ConfigError: the schedule cannot be made for this number of steps.
        """
        raise NotImplementedError

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """True if the step is not one of those to compute."""
        return at.step not in self.choose(at.steps)

    def record_computed(self, at: StepInfo) -> None:
        """Nothing to record: the steps are fixed."""


def is_schedule(options: PartConfig | None) -> TypeGuard[PartConfig]:
    """True if the options are those of a schedule."""
    return options is not None and issubclass(find_implementation("cache/criterion", options), Schedule)


def choose_steps(options: PartConfig, steps: int) -> frozenset[int]:
    """The steps, counted from 0, that a schedule chooses to compute; window and limits may force others.

    Raises:
        ConfigError: it cannot be made for this number of steps.
    """
    schedule: Schedule = find_implementation("cache/criterion", options)(options)
    return schedule.choose(steps)


def explain_misfit(options: PartConfig | None, steps: int) -> str:
    """Why a schedule cannot be made for this number of steps; empty if it can, or if it is no schedule. For rules.

    A schedule whose steps are still to come from a calibration (`planned`) counts as fitting.
    """
    if not is_schedule(options) or getattr(options, "schedule", ()) is None:
        return ""
    try:
        choose_steps(options, steps)
    except ConfigError as error:
        return str(error)
    return ""


def list_scheduled_steps(options: PartConfig, steps: int, window: CacheConfig) -> list[int] | None:
    """Steps, counted from 1, that a criterion computes in this window; None if that depends on what it watches.

    A window over timesteps or noise levels is known only once the run has set its schedule: None.

    Raises:
        ConfigError: the schedule does not fit this number of steps, or lacks values that a calibration provides.
    """
    implementation = find_implementation("cache/criterion", options)
    if implementation.watches != "nothing" or window.window is not Window.steps:
        return None
    criterion = implementation(options)
    computed: list[int] = []
    hits = CacheHits()
    for step in range(steps):
        at = StepInfo(step=step, steps=steps, sigma=nan)
        skipped = ask(criterion, window, () if step > 0 else None, at, hits)
        hits.count(skipped)
        if not skipped:
            criterion.record_computed(at)
            computed.append(step + 1)
    return computed
