"""Confidence limits of a mean over prompts: what other prompts of this kind would give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf, sqrt

INTERVAL = 0.975
"""One-sided confidence of each end of a 95 % interval."""
FEWEST_RESAMPLED = 8
"""With fewer prompts the limit of a mean is that of a t interval: a bootstrap of so few is much too narrow."""
RESAMPLES, SEED = 4000, 0
"""Of the bootstrap."""
Values = Mapping[str, Sequence[float]]
"""Prompt -> a metric's value of each of its images."""


def find_mean_limit(values: Values, confidence: float, *, upper: bool) -> float:
    """A one-sided confidence limit of the mean; infinite for a single prompt, which says nothing of others.

    Args:
        values: of at least one prompt, and not all of them equal; images of one prompt count as one.
        confidence: of the limit, such as 0.95.
        upper: which of the two.
    """
    if len(values) < FEWEST_RESAMPLED:
        return _limit_by_t(values, confidence, upper=upper)
    return _limit_by_bootstrap(values, confidence, upper=upper)


def find_mean_interval(values: Values) -> tuple[float, float]:
    """The 95 % interval of the mean, low and high; several prompts with equal values have that value."""
    flat = [value for one in values.values() for value in one]
    if len(values) > 1 and min(flat) == max(flat):
        return flat[0], flat[0]
    return find_mean_limit(values, INTERVAL, upper=False), find_mean_limit(values, INTERVAL, upper=True)


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
