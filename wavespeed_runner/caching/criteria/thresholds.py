"""Threshold criteria: reuse while a signal has changed little. State belongs to one image in one guidance branch.

They are state machines on floats: the engine measures (`interfaces.Criterion.watches` says what), so a recorded trace
can be replayed with any threshold. Schedules, which watch nothing, are in `schedules.py` and `step_lists.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from ...config.schema import PartConfig
from ...errors import ConfigError, Unfit
from ...registry import register
from ..interfaces import StepInfo


@dataclass(kw_only=True)
class RelativeChange(PartConfig):
    """Options of `cache/criterion=relative_change`."""

    name: str = "relative_change"
    threshold: float = 0.08
    """Reuse while the change since the last computed step is below this."""


@register("cache/criterion", "relative_change", RelativeChange)
class RelativeChangeCriterion:
    """Reuse while the signal has hardly changed since the last *computed* step.

    The comparison stays with that step over a run of cached ones, so drift is measured against real features. Rule of
    FBCache, https://github.com/chengzeyi/ParaAttention.
    """

    watches: ClassVar[str] = "computed"

    def __init__(self, options: RelativeChange) -> None:
        """Takes the options class above."""
        self.threshold = options.threshold
        self.level: float | None = None

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """True if the change is below the threshold."""
        (self.level,) = numbers
        return self.level < self.threshold

    def record_computed(self, at: StepInfo) -> None:
        """Nothing to record: the engine keeps the signal of the last computed step."""


@dataclass(kw_only=True)
class AccumulatedChange(PartConfig):
    """Options of `cache/criterion=accumulated_change`."""

    name: str = "accumulated_change"
    threshold: float = 0.15
    """Reuse while the changes since the last computed step add up to less than this."""


@register("cache/criterion", "accumulated_change", AccumulatedChange)
class AccumulatedChangeCriterion:
    """Reuse while the step-to-step changes since the last computed step add up to less than the threshold.

    Rule of SeaCache (https://arxiv.org/abs/2602.18993) and DiCache (https://arxiv.org/abs/2508.17356).
    """

    watches: ClassVar[str] = "previous"

    def __init__(self, options: AccumulatedChange) -> None:
        """Takes the options class above."""
        self.threshold = options.threshold
        self.sum = 0.0
        self.level: float | None = None

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """Adds the change; True if the sum is still below the threshold."""
        (change,) = numbers
        self.sum += change
        self.level = self.sum
        return self.sum < self.threshold

    def record_computed(self, at: StepInfo) -> None:
        """Starts a new sum."""
        self.sum = 0.0


class Clamp(Enum):
    """What becomes of a polynomial where it was not fitted."""

    range = "range"
    """Changes are clamped to `range`, and the value is never below 0."""
    none = "none"
    """Nothing, as in the authors' scripts: a value below 0 prolongs reuse."""
    absolute = "absolute"
    """Its absolute value counts, as in ComfyUI-TeaCache for FLUX."""


@dataclass(kw_only=True)
class AccumulatedPolynomial(PartConfig):
    """Options of `cache/criterion=accumulated_polynomial`."""

    name: str = "accumulated_polynomial"
    threshold: float = 0.2
    """Reuse while the polynomial of the changes since the last computed step adds up to less than this."""
    coefficients: list[float] | None = None
    """Of the polynomial, highest degree first; null: those published for the model, or from its calibration."""
    range: list[float] | None = None
    """[lowest, highest] change for which the polynomial is valid; changes outside are clamped to it. Null: any."""
    clamp: Clamp = Clamp.range
    """What becomes of changes outside of the range, and of values below 0."""
    outside_window: bool = False
    """True: changes add up outside of the window, too, as in ComfyUI-TeaCache; its sum starts anew where it reaches the
    threshold there."""

    def __post_init__(self) -> None:
        """Refuses an empty polynomial and an impossible range."""
        if self.coefficients == []:
            raise ConfigError("cache.criterion.coefficients=[]: at least one number, highest degree first; or null")
        if self.range is not None and not (len(self.range) == 2 and 0 <= self.range[0] <= self.range[1]):
            raise ConfigError(f"cache.criterion.range={self.range}: [lowest, highest] with 0 <= lowest <= highest")
        if self.range is not None and self.clamp is not Clamp.range:
            raise Unfit(
                f"cache.criterion.range={self.range} with cache.criterion.clamp={self.clamp.value}: nothing is clamped "
                "to it, so it could not take effect; leave one of them out"
            )


@register("cache/criterion", "accumulated_polynomial", AccumulatedPolynomial)
class AccumulatedPolynomialCriterion(AccumulatedChangeCriterion):
    """Like `accumulated_change`, each change first mapped by a polynomial that was fitted to the model's output.

    Rule of TeaCache, https://arxiv.org/abs/2411.19108. The published fits are negative in places (HiDream-I1-Full's
    above 0.07). There a *larger* change would lower the sum and prolong reuse, so what is added is never below zero.
    """

    def __init__(self, options: AccumulatedPolynomial) -> None:
        """Raises a ConfigError if the coefficients are still missing."""
        if options.coefficients is None:
            raise ConfigError(
                "cache.criterion.coefficients=null: none are published for this model and it has no calibration; "
                "calibrate it, give cache.criterion.coefficients=[...], or use cache=seacache, which needs none"
            )
        super().__init__(AccumulatedChange(threshold=options.threshold))
        self.coefficients = options.coefficients
        self.range = options.range
        self.clamp, self.outside_window = options.clamp, options.outside_window
        self._kept = 0.0

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """Adds the polynomial of the change; True if the sum is still below the threshold."""
        (change,) = numbers
        if self.range is not None and self.clamp is Clamp.range:
            lowest, highest = self.range
            change = min(max(change, lowest), highest)
        value = evaluate_polynomial(self.coefficients, change)
        added = {Clamp.range: max(0.0, value), Clamp.none: value, Clamp.absolute: abs(value)}[self.clamp]
        return super().should_reuse((added,), at)

    def pass_by(self, numbers: tuple[float, ...] | None, at: StepInfo) -> None:
        """A step outside of the window, which is computed whatever the sum is."""
        if self.outside_window and numbers is not None and self.should_reuse(numbers, at):
            self._kept = self.sum

    def record_computed(self, at: StepInfo) -> None:
        """Starts a new sum; goes on with the old one after a step that the window alone had computed."""
        self.sum, self._kept = self._kept, 0.0


def evaluate_polynomial(coefficients: Sequence[float], x: float) -> float:
    """The polynomial's value at x, by Horner's rule; coefficients highest degree first."""
    value = 0.0
    for coefficient in coefficients:
        value = value * x + coefficient
    return value


@dataclass(kw_only=True)
class PredictedChange(PartConfig):
    """Options of `cache/criterion=predicted_change`."""

    name: str = "predicted_change"
    threshold: float = 0.05
    """Reuse while the predicted changes of the output since the last computed step add up to less than this."""


@register("cache/criterion", "predicted_change", PredictedChange)
class PredictedChangeCriterion(AccumulatedChangeCriterion):
    """Like `accumulated_change` for the denoiser's output, whose change is predicted from the change of its input.

    The output's relative change is k c: c is the input's change relative to the size of the output, k how much more
    than the input the output changed around the last computed step. Rule of EasyCache,
    https://arxiv.org/abs/2507.02860.
    """

    watches: ClassVar[str] = "model"

    def __init__(self, options: PredictedChange) -> None:
        """Takes the options class above."""
        super().__init__(AccumulatedChange(threshold=options.threshold))

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """Adds the predicted change; True if the sum is still below the threshold."""
        c, k = numbers
        return super().should_reuse((k * c,), at)
