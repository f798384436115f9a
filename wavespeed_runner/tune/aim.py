"""What a search looks for: the fastest setting that keeps the bounds, or the best one within a time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ..metrics.values import is_less_better
from .bounds import CONFIDENCE, Bound
from .result import Result

TIME = re.compile(r"<=\s*(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|min)", re.ASCII)
UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0}


@dataclass(frozen=True, kw_only=True)
class Aim:
    """Bounds on quality, a limit of time, or both; without bounds, the best figure within the time is looked for."""

    bounds: list[Bound]
    seconds: float | None = None
    """The most that denoising an image may take."""
    typed: str = ""
    """The same as it was typed, `60ms`; empty: in seconds."""
    by: str = "ssim"
    """The metric whose mean is to be the best where nothing bounds the quality."""

    @property
    def for_speed(self) -> bool:
        """True: the fastest setting is looked for. False: the best within the time."""
        return bool(self.bounds)

    @property
    def shown(self) -> Bound:
        """The bound whose figure stands for the quality: the first one, or the mean of `by`."""
        return (
            self.bounds[0] if self.bounds else Bound(metric=self.by, statistic="mean", least=self._is_high, value=0.0)
        )

    @property
    def _is_high(self) -> bool:
        return not is_less_better(self.by)

    @property
    def limit(self) -> str:
        """The limit of time with its unit; empty without one."""
        return "" if self.seconds is None else self.typed or f"{self.seconds:g}s"

    def __str__(self) -> str:
        """As it was typed."""
        wanted = [str(bound) for bound in self.bounds]
        wanted += [f"time<={self.limit}"] if self.limit else []
        return " and ".join(wanted) if self.for_speed else f"the best {self.by} with {' and '.join(wanted)}"

    def may_do(self, result: Result) -> bool:
        """Whether more prompts could still show that a place on a ladder does: its quality, or else its time."""
        if not self.for_speed:
            return self.is_in_time(result)
        return all(bound.can_hold(result.values[bound.metric]) for bound in self.bounds)

    def is_likely(self, result: Result, prompts: int) -> bool:
        """Whether so many prompts may well show that a place on a ladder does."""
        if not self.for_speed:
            return True
        return all(bound.is_likely(result.values[bound.metric], prompts) for bound in self.bounds)

    def does_by_figures(self, result: Result) -> bool:
        """Whether a place does by the figures of the prompts that it was tried on: its quality, or else its time.

        With both a bound and a time, quality decides where on a ladder to look. What keeps it and is too slow is no
        answer, and nothing slower is.
        """
        if not self.for_speed:
            return self.is_in_time(result)
        figures = [(bound, bound.estimate(result.values[bound.metric])) for bound in self.bounds]
        return all(figure >= bound.value if bound.least else figure <= bound.value for bound, figure in figures)

    def does(self, result: Result) -> bool:
        """Whether a place is known to do, by all prompts: its quality, or else its time."""
        return self.find_share(result) <= 1 if self.for_speed else self.is_in_time(result)

    def is_met(self, result: Result, confidence: float = CONFIDENCE) -> bool:
        """Whether a setting is known to keep the bounds and the time."""
        return self.find_share(result, confidence) <= 1 and self.is_in_time(result)

    def is_in_time(self, result: Result) -> bool:
        """Whether a setting keeps the limit of time."""
        return self.seconds is None or result.seconds <= self.seconds

    def find_share(self, result: Result, confidence: float = CONFIDENCE) -> float:
        """How much of the loss that is allowed the tightest bound takes, see `Bound.find_share`. 0 without bounds."""
        return max((bound.find_share(result.values[bound.metric], confidence) for bound in self.bounds), default=0.0)

    def find_excess(self, result: Result) -> float:
        """How far a setting is from what is wanted: the share of the allowed loss, or of the time, that it takes."""
        return max(self.find_share(result), result.seconds / self.seconds if self.seconds else 0.0)

    def score(self, result: Result) -> float:
        """What is to be as small as possible: the share of the reference's time, or the loss of quality."""
        if self.for_speed:
            return result.relative
        limit = self.shown.find_limit(result.values[self.by])
        return -limit if self._is_high else limit

    def is_about(self, result: Result, best: Result, factor: float) -> bool:
        """Whether times decide between two settings: one takes no more than this times as long as the other."""
        return result.relative <= best.relative * factor if self.for_speed else result is best

    def tighten(self, tuned: Result, judged: Result, confidence: float, least: float) -> Aim:
        """The aim after other prompts have missed bounds, which they keep where these keep them by so much more.

        Each bound that was missed allows for as much less of its loss as the other prompts lose more, but not for less
        than what this many prompts can show; the others stay.

        Args:
            tuned: a setting on the prompts for tuning.
            judged: the same on the others.
            confidence: with which it was judged.
            least: the least share of a loss that is allowed for.
        """
        bounds = []
        for bound in self.bounds:
            share = bound.find_share(judged.values[bound.metric], confidence)
            if share > 1:
                wanted = max(least, bound.find_share(tuned.values[bound.metric]) / share)
                bound = bound.tighten(min(wanted, 1.0)).loosen_to_known(tuned.prompts)
            bounds.append(bound)
        return replace(self, bounds=bounds)

    def can_beat(self, result: Result, best: Result | None) -> bool:
        """Whether more prompts could show that a setting is better than the best one known."""
        if best is None:
            return True
        if self.for_speed:
            return result.relative < best.relative
        estimate, own = self.shown.estimate(result.values[self.by]), self.score(best)
        # As far on the good side of the estimate as the limit is on the bad side of it.
        limit = 2 * estimate - self.shown.find_limit(result.values[self.by])
        return (-limit if self._is_high else limit) < own


def parse_time(text: str) -> float:
    """Seconds from `<=3s`, `<=800ms`, `<=2min`. Raises ValueError for anything else."""
    match = TIME.fullmatch(text.strip())
    if not match or float(match[1]) <= 0:
        raise ValueError("the most time that an image may take is needed, as in time='<=3s', '<=800ms' or '<=2min'")
    return float(match[1]) * UNITS[match[2]]
