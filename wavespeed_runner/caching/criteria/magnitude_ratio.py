"""MagCache's criterion: a threshold on what the norms of a recorded run say of the residual's drift."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from ...config.schema import PartConfig
from ...errors import ConfigError
from ...registry import register
from ..interfaces import StepInfo


@dataclass(kw_only=True)
class MagnitudeRatio(PartConfig):
    """Options of `cache/criterion=magnitude_ratio`."""

    name: str = "magnitude_ratio"
    threshold: float = 0.06
    """Reuse while the accumulated error is at most this."""
    ratios: list[float] | None = None
    """Norm of the residual at each step, divided by its norm at the previous step; null: those published for the model,
    or from its calibration. For another number of steps the nearest ratio is used."""
    ratios_uncond: list[float] | None = None
    """The same for the second guidance branch, where each has a call of its own; null: those published with `ratios`,
    otherwise `ratios`."""
    always_computed: list[int] = field(default_factory=list)
    """Steps of the schedule that `ratios` are for, counted from 1, that are never skipped. MagCache's FLUX script has
    [12]. For another number of steps: those whose nearest ratio is that of one of them."""

    def __post_init__(self) -> None:
        """Refuses ratios that are not above 0, two lists of different length, and steps that no ratio belongs to."""
        for key, ratios in (("ratios", self.ratios), ("ratios_uncond", self.ratios_uncond)):
            if ratios is not None and not (ratios and all(ratio > 0 for ratio in ratios)):
                raise ConfigError(f"cache.criterion.{key}={ratios}: numbers above 0, one per step; or null")
        count = len(self.ratios) if self.ratios is not None else None
        if self.ratios_uncond is not None and len(self.ratios_uncond) != count:
            raise ConfigError(
                f"cache.criterion.ratios_uncond: {len(self.ratios_uncond)} numbers; as many as cache.criterion.ratios "
                f"has are needed ({count or 0}); or null"
            )
        if any(step < 1 or step > (count or step) for step in self.always_computed):
            raise ConfigError(
                f"cache.criterion.always_computed={self.always_computed}: steps, counted from 1"
                + (f", of the {count} that cache.criterion.ratios is for" if count else "")
            )


@register("cache/criterion", "magnitude_ratio", MagnitudeRatio)
class MagnitudeRatioCriterion:
    """Reuse while the residual's norm, known from another run, has not drifted far since the last computed step.

    The product of the ratios since that step is the residual's norm relative to then; its distances from 1 add up to
    the error. It looks at nothing of the present run, so with given ratios it is a schedule. Rule of MagCache,
    https://arxiv.org/abs/2506.09045; its K is `cache.max_consecutive_cache_hits`, its retention ratio `cache.start`.
    """

    watches: ClassVar[str] = "nothing"

    def __init__(self, options: MagnitudeRatio) -> None:
        """Raises a ConfigError if the ratios are still missing."""
        if options.ratios is None:
            raise ConfigError(
                "cache.criterion.ratios=null: none are published for this model and it has no calibration; "
                "calibrate it, or give cache.criterion.ratios=[...]"
            )
        self.threshold = options.threshold
        self.ratios = (options.ratios, options.ratios_uncond or options.ratios)
        self.always_computed = options.always_computed
        self.ratio, self.error = 1.0, 0.0
        self.level: float | None = None

    def should_reuse(self, numbers: tuple[float, ...], at: StepInfo) -> bool:
        """Adds the drift of this step; True if the error is at most the threshold and the step may be skipped."""
        ratios = self.ratios[min(at.branch, 1)]
        nearest = nearest_index(at.step, at.steps, len(ratios))
        self.ratio *= ratios[nearest]
        self.error += abs(1.0 - self.ratio)
        self.level = self.error
        return self.error <= self.threshold and nearest + 1 not in self.always_computed

    def record_computed(self, at: StepInfo) -> None:
        """Starts anew from this step."""
        self.ratio, self.error = 1.0, 0.0


def nearest_index(step: int, steps: int, count: int) -> int:
    """Which of `count` values, evenly spread over the schedule, belongs to step `step` of `steps`, counted from 0.

    Like diffusers' `nearest_interp`: first to first, last to last, halves to even; a single step gets the last value.
    """
    return round(step * (count - 1) / (steps - 1)) if steps > 1 else count - 1
