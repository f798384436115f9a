"""Bounds on quality, such as `ssim>=0.97` or `forks<=2%`, and whether measured images are known to keep them.

A bound holds if the confidence limit over prompts keeps it, not only the figure of the prompts that were tried: other
prompts of this kind would give another figure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf, log, sqrt

from ..errors import did_you_mean
from ..metrics.forks import FORK
from ..metrics.quality import compute_tail
from ..metrics.values import is_less_better

FORKS = "forks"
"""The share of prompts with an image that counts as another one than its reference."""
CONFIDENCE = 0.95
"""One-sided: the bound is missed on other prompts in at most one of twenty cases."""
INTERVAL = 0.975
"""One-sided confidence of each end of a 95 % interval."""
FEWEST_RESAMPLED = 8
"""With fewer prompts the limit of a mean is that of a t interval: a bootstrap of so few is much too narrow."""
QUANTILES = {"median": 0.5, "p10": 0.1}
"""Statistic -> the share of images that are no better."""
HOPELESS = 0.995
"""Confidence with which a setting misses a bound before it is dropped after a few prompts."""
RESAMPLES, SEED = 4000, 0
"""Of the bootstrap."""
STATISTICS = ("mean", "median", "p10", "worst")
BOUND = re.compile(r"(?:(\w+)\()?(\w+)(\))?\s*(>=|<=)\s*(-?\d{1,9}(?:\.\d{1,9})?)(%?)", re.ASCII)
Values = Mapping[str, Sequence[float]]
"""Prompt -> a metric's value of each of its images."""


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
        what = self.metric if self.statistic == "mean" else f"{self.statistic}({self.metric})"
        return f"{what}{'>=' if self.least else '<='}{self.value:g}"

    def estimate(self, values: Values) -> float:
        """The figure of these images; of forks the share of prompts with one."""
        if self.metric == FORKS:
            return sum(max(one) > 0 for one in values.values()) / len(values)
        return _compute(self, [value for one in values.values() for value in one])

    def find_limit(self, values: Values, confidence: float = CONFIDENCE) -> float:
        """The confidence limit on the bad side: what other prompts of this kind would keep, with this confidence."""
        return _find_limit(self, values, confidence, good=False)

    def margin(self, values: Values, confidence: float = CONFIDENCE) -> float:
        """How far the confidence limit is on the good side of the bound; below 0: it misses it by so much."""
        limit = self.find_limit(values, confidence)
        return limit - self.value if self.least else self.value - limit

    def can_hold(self, values: Values) -> bool:
        """False where even the confidence limit on the good side misses the bound: more prompts will not help."""
        limit = _find_limit(self, values, HOPELESS, good=True)
        return limit >= self.value if self.least else limit <= self.value

    def find_interval(self, values: Values) -> tuple[float, float]:
        """The 95 % interval, whose limit on the bad side is what a first judgement goes by; infinite: not known."""
        limits = [_find_limit(self, values, INTERVAL, good=good) for good in (False, True)]
        return min(limits), max(limits)

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
    if metric not in known:
        names = (*known, FORKS)
        raise ValueError(f"{metric}: no such metric{did_you_mean(metric, names)} (there are {', '.join(names)})")
    if statistic not in STATISTICS:
        raise ValueError(f"{statistic}: no such figure (there are {', '.join(STATISTICS)})")
    if match[6] or least is is_less_better(metric):
        sign = "<=" if is_less_better(metric) else ">="
        raise ValueError(f"'{text}': {metric} is bounded as in {metric}{sign}VALUE, without %")
    return Bound(metric=metric, statistic=statistic, least=least, value=value)


def _compute(bound: Bound, values: Sequence[float]) -> float:
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if bound.statistic == "p10":
        return compute_tail(values, less_is_better=not bound.least)
    if bound.statistic == "worst":
        return float(array.min() if bound.least else array.max())
    return float(np.median(array) if bound.statistic == "median" else array.mean())


def _find_limit(bound: Bound, values: Values, confidence: float, *, good: bool) -> float:
    """A one-sided confidence limit. Of the worst image there is none beyond what was seen."""
    if bound.metric == FORKS:
        return _limit_share(values, confidence, upper=not good)
    if bound.statistic in QUANTILES:
        return _limit_quantile(bound, values, confidence, good=good)
    flat = [value for one in values.values() for value in one]
    if bound.statistic == "worst" or min(flat) == max(flat):
        return bound.estimate(values)
    upper = bound.least is good
    if len(values) < FEWEST_RESAMPLED:
        return _limit_by_t(values, confidence, upper=upper)
    return _limit_by_bootstrap(values, confidence, upper=upper)


def _limit_quantile(bound: Bound, values: Values, confidence: float, *, good: bool) -> float:
    """The limit of a quantile by order statistics: how many of so many prompts lie below it is binomial.

    A prompt counts by its worst image. Infinite where there are too few prompts to know any.
    """
    from scipy.stats import binom

    sign = 1.0 if bound.least else -1.0
    ordered = sorted(min(sign * value for value in one) for one in values.values())
    count, share = len(ordered), QUANTILES[bound.statistic]
    if good:
        place = next((k for k in range(1, count + 1) if binom.cdf(k - 1, count, share) >= confidence), None)
        return sign * inf if place is None else sign * ordered[place - 1]
    known = [k for k in range(1, count + 1) if binom.sf(k - 1, count, share) >= confidence]
    return sign * ordered[known[-1] - 1] if known else -sign * inf


def _limit_share(values: Values, confidence: float, *, upper: bool) -> float:
    """The exact limit of a share, by scipy. A prompt counts as one, by its worst image."""
    from scipy.stats import binomtest

    forks = sum(max(one) > 0 for one in values.values())
    interval = binomtest(forks, len(values)).proportion_ci(2 * confidence - 1, method="exact")
    return float(interval.high if upper else interval.low)


def _limit_by_t(values: Values, confidence: float, *, upper: bool) -> float:
    """The limit of a mean by Student's t, over prompts."""
    import numpy as np
    from scipy.stats import t

    means = np.array([np.mean(one) for one in values.values()])
    if len(means) < 2:
        return inf if upper else -inf
    width = float(t.ppf(confidence, len(means) - 1) * means.std(ddof=1) / sqrt(len(means)))
    return float(means.mean()) + (width if upper else -width)


def _limit_by_bootstrap(values: Values, confidence: float, *, upper: bool) -> float:
    """The limit of a mean by scipy's BCa bootstrap over prompts, because few images fork far below the others.

    The tail is widened by what a t interval is wider than a normal one of as many prompts: with few of them bootstrap
    percentiles are less accurate than t intervals (Hesterberg, The American Statistician 69, 2015, abstract).
    """
    import numpy as np
    from scipy.stats import bootstrap, norm, t

    sums, counts = (np.array([function(one) for one in values.values()], dtype=float) for function in (sum, len))
    count = len(values)
    tail = float(norm.cdf(sqrt(count / (count - 1)) * t.ppf(1 - confidence, count - 1)))
    interval = bootstrap(
        (sums, counts),
        lambda sums, counts, axis: sums.sum(axis) / counts.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=1 - 2 * tail,
        method="BCa",
        rng=np.random.default_rng(SEED),
    ).confidence_interval
    return float(interval.high if upper else interval.low)
