"""Bounds on quality, such as `ssim>=0.97` or `forks<=2%`, and whether measured images are known to keep them.

A bound holds if the confidence limit over prompts keeps it, not only the figure of the prompts that were tried: other
prompts of this kind would give another figure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, exp, inf, log, sqrt

from ..errors import did_you_mean
from ..metrics.confidence import INTERVAL, Values
from ..metrics.forks import FORK
from ..metrics.values import is_less_better
from .limits import QUANTILES, compute_statistic, find_limit

FORKS = "forks"
"""The share of prompts with an image that counts as another one than its reference."""
CONFIDENCE = 0.95
"""One-sided: the bound is missed on other prompts in at most one of twenty cases."""
CHANCE = 0.1
"""A setting with less of it to keep a bound on all prompts is given up after some of them."""
HOPELESS = 0.995
"""Confidence with which a setting misses a bound before it is dropped after a few prompts."""
PERFECT = {"ssim": 1.0, "mae_similarity": 1.0}
"""Metric of which more is better -> its value for an image like its reference; of distances that is 0."""
MOST_DECIBELS = 200.0
"""The PSNR that an image without any difference counts as: more than one grey level in a billion pixels has."""
DECIBELS = 20 / log(10)
"""dB for a factor of e in the error of a pixel."""
STATISTICS = ("mean", "median", "p10", "worst")
BOUND = re.compile(r"(?:(\w+)\()?(\w+)(\))?\s*(>=|<=)\s*(-?\d{1,9}(?:\.\d{1,9})?)(%?)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What one metric has to keep."""

    metric: str
    """`ssim`, ... or `forks`, the share of prompts with an image below an SSIM of 0.9."""
    statistic: str
    """One of `STATISTICS`; `share` for forks."""
    least: bool
    """True: at least `value`; False: at most."""
    value: float

    def __str__(self) -> str:
        """As it is typed."""
        if self.metric == FORKS:
            return f"{FORKS}<={100 * self.value:g}%"
        return f"{self.name}{'>=' if self.least else '<='}{self.value:g}"

    @property
    def name(self) -> str:
        """`ssim`, `p10(ssim)`, ..."""
        return self.metric if self.statistic in ("mean", "share") else f"{self.statistic}({self.metric})"

    def estimate(self, values: Values) -> float:
        """The figure of these images; of forks the share of prompts with one."""
        if self.metric == FORKS:
            return sum(max(one) > 0 for one in values.values()) / len(values)
        return compute_statistic(self.statistic, [value for one in values.values() for value in one], least=self.least)

    def find_limit(self, values: Values, confidence: float = CONFIDENCE) -> float:
        """The confidence limit on the bad side: what other prompts of this kind would keep, with this confidence."""
        return self._find_limit(values, confidence, good=False)

    def _find_limit(self, values: Values, confidence: float, *, good: bool) -> float:
        statistic = "share" if self.metric == FORKS else self.statistic
        return find_limit(statistic, values, confidence, least=self.least, good=good)

    def margin(self, values: Values, confidence: float = CONFIDENCE) -> float:
        """How far the confidence limit is on the good side of the bound; below 0: it misses it by so much."""
        limit = self.find_limit(values, confidence)
        return limit - self.value if self.least else self.value - limit

    def find_share(self, values: Values, confidence: float = CONFIDENCE) -> float:
        """What is lost at the confidence limit, as a share of the loss that is allowed: above 1, the bound is missed.

        A bound `ssim>=0.98` allows for a loss of 0.02, and a limit of 0.97 loses 1.5 times as much; 6 dB of PSNR are
        twice the error. So bounds on different metrics can be compared.
        """
        margin = self.margin(values, confidence)
        if self.metric == "psnr":
            return exp(-margin / DECIBELS) if margin > -inf else inf
        allowed = abs(self._best - self.value)
        return 1 - margin / allowed if allowed else float(1 if margin >= 0 else inf)

    def tighten(self, share: float) -> Bound:
        """The bound that allows for this share of the loss."""
        if self.metric == "psnr":
            return replace(self, value=self.value - DECIBELS * log(share))
        return replace(self, value=self._best + share * (self.value - self._best))

    def loosen_to_known(self, prompts: int) -> Bound:
        """The bound, or the tightest one that so many prompts can show at all: of shares that of no fork."""
        if self.metric != FORKS:
            return self
        none = self.find_limit({str(number): [0.0] for number in range(prompts)})
        return replace(self, value=max(self.value, none))

    @property
    def _best(self) -> float:
        """The value of an image like its reference; as far from the bound as 0 is, where nobody knows the best one."""
        return PERFECT.get(self.metric, self.value + abs(self.value) if self.least else 0.0)

    def can_hold(self, values: Values) -> bool:
        """False where even the confidence limit on the good side misses the bound: more prompts will not help."""
        limit = self._find_limit(values, HOPELESS, good=True)
        return limit >= self.value if self.least else limit <= self.value

    def is_likely(self, values: Values, prompts: int) -> bool:
        """Whether the limit of so many prompts may well keep the bound, after these few of them.

        The figure of all of them lies around the figure of these, and their limit closer to it: by the square root of
        how many there are, as for a mean. False where this leaves a chance of less than `CHANCE`.
        """
        from scipy.stats import norm

        sign = 1.0 if self.least else -1.0
        estimate, limit = self.estimate(values), self.find_limit(values)
        width, seen = abs(estimate - limit), len(values) / prompts
        if seen >= 1 or not 0 < width < inf:
            return True
        wanting = sign * (self.value - estimate) + width * sqrt(seen)
        deviation = width / float(norm.ppf(CONFIDENCE)) * sqrt(1 - seen)
        return wanting <= float(norm.isf(CHANCE)) * deviation

    def find_interval(self, values: Values) -> tuple[float, float]:
        """The 95 % interval, whose limit on the bad side is what a first judgement goes by; infinite: not known.

        Student's t knows no largest value of a metric: a limit beyond it is that value.
        """
        limits = [self._find_limit(values, INTERVAL, good=good) for good in (False, True)]
        low, high = min(limits), max(limits)
        return low, min(high, PERFECT.get(self.metric, inf)) if high < inf else high

    def count_needed(self) -> int:
        """The fewest prompts that can show this bound to hold when they are judged: even if all of them keep it."""
        if self.metric == FORKS:
            return ceil(log(1 - INTERVAL) / log(1 - self.value))
        share = QUANTILES.get(self.statistic)
        return 2 if share is None else ceil(log(1 - INTERVAL) / log(1 - share))


def parse_bounds(text: str, known: Sequence[str]) -> list[Bound]:
    """Bounds from `ssim>=0.97, forks<=2%`.

    Args:
        text: one bound or several, with commas or `and` between them.
        known: names of the metrics that there are.

    Raises:
        ValueError: what is wrong and what is allowed.
    """
    bounds = [_parse(part.strip().lower(), known) for part in re.split(r",|\band\b", text)]
    seen: set[tuple[str, str]] = set()
    for bound in bounds:
        if (bound.metric, bound.statistic) in seen:
            raise ValueError(f"{bound.metric} is bounded twice; keep one of them")
        seen.add((bound.metric, bound.statistic))
    return bounds


def _parse(text: str, known: Sequence[str]) -> Bound:
    match = BOUND.fullmatch(text)
    if not match or bool(match[1]) != bool(match[3]):
        raise ValueError(f"'{text}' is no bound; ssim>=0.97, p10(ssim)>=0.95, worst(ssim)>=0.9, mae<=2, forks<=5% are")
    statistic, metric, least = match[1] or "mean", match[2], match[4] == ">="
    value = float(match[5]) / (100 if match[6] else 1)
    if metric == FORKS:
        if match[1] or least or not 0 < value < 1:
            raise ValueError(
                f"'{text}': forks are bounded from above by a share, as in forks<=5%; that there are none at all "
                f"cannot be known from a few prompts, worst(ssim)>={FORK} bounds those that are seen"
            )
        return Bound(metric=metric, statistic="share", least=False, value=value)
    if metric == "psnr" and abs(value) > MOST_DECIBELS:
        raise ValueError(f"'{text}': {value:g} dB; an image like its reference has {MOST_DECIBELS:g}")
    if value > PERFECT.get(metric, value):
        raise ValueError(f"'{text}': an image like its reference has {PERFECT[metric]:g}; {metric}>=0.97 is a bound")
    if metric not in known:
        names = (*known, FORKS)
        raise ValueError(f"{metric}: no such metric{did_you_mean(metric, names)} (there are {', '.join(names)})")
    if statistic not in STATISTICS:
        raise ValueError(f"{statistic}: no such figure (there are {', '.join(STATISTICS)})")
    if match[6] or least is is_less_better(metric):
        sign = "<=" if is_less_better(metric) else ">="
        raise ValueError(f"'{text}': {metric} is bounded as in {metric}{sign}VALUE, without %")
    return Bound(metric=metric, statistic=statistic, least=least, value=value)
