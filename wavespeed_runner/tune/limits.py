"""Confidence limits of a figure over prompts: of a mean, a quantile, a share of prompts and the worst image."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ..metrics.confidence import Values, find_mean_limit
from ..metrics.quality import compute_tail

QUANTILES = {"median": 0.5, "p10": 0.1}
"""Statistic -> the share of images that are no better."""


def compute_statistic(statistic: str, values: Sequence[float], *, least: bool) -> float:
    """The figure of some images.

    Args:
        statistic: `mean`, `median`, `p10` or `worst`.
        values: of a metric, one for each image.
        least: True: more is better.
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if statistic == "p10":
        return compute_tail(values, less_is_better=not least)
    if statistic == "worst":
        return float(array.min() if least else array.max())
    return float(np.median(array) if statistic == "median" else array.mean())


def find_limit(statistic: str, values: Values, confidence: float, *, least: bool, good: bool) -> float:
    """A one-sided confidence limit. Of the worst image there is none beyond what was seen.

    Args:
        statistic: `share` (of the prompts with a value above 0) or one of `compute_statistic`.
        values: of some prompts.
        confidence: that the figure of all such prompts is not beyond the limit.
        least: True: more is better.
        good: True: the limit on the good side.
    """
    if statistic == "share":
        return _limit_share(values, confidence, upper=not good)
    if statistic in QUANTILES:
        return _limit_quantile(statistic, values, confidence, least=least, good=good)
    flat = [value for one in values.values() for value in one]
    if statistic == "worst" or min(flat) == max(flat):
        return compute_statistic(statistic, flat, least=least)
    upper = least is good
    return find_mean_limit(values, confidence, upper=upper)


def _limit_quantile(statistic: str, values: Values, confidence: float, *, least: bool, good: bool) -> float:
    """The limit of a quantile by order statistics: how many of so many prompts lie below it is binomial.

    A prompt counts by its worst image. Infinite where there are too few prompts to know any.
    """
    from scipy.stats import binom

    sign = 1.0 if least else -1.0
    ordered = sorted(min(sign * value for value in one) for one in values.values())
    count, share = len(ordered), QUANTILES[statistic]
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
