"""Whether a figure of one run is better than that of another, the same, or whether the runs do not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, inf, log
from statistics import fmean
from typing import Any

from ...metrics.confidence import find_mean_interval
from ...metrics.statistics import Interval
from ...records.quality_summary import Quality
from ...records.sample import SampleRecord
from ..rows import Row

BETTER, WORSE, SAME, OPEN = "better", "worse", "same", "not settled"
SAME_TIME = 0.03
"""Ratios within so much of 1 count as the same time: a machine's own times vary by that."""
DIGITS = 12
"""Behind the point, of a change."""
IDENTICAL, MOST = 200.0, 700.0
"""PSNR, in dB, of an image without any difference; and the largest number whose exponential is finite."""
SAME_JUDGED = 0.005
"""Of a judge's own mean: its unit is its own."""
SAME_QUALITY = {"ssim": 0.001, "mae_similarity": 0.0005, "psnr": 0.2}
"""Metric -> the difference up to which two means count as the same."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A figure of one run beside that of the first one."""

    text: str
    """With its interval."""
    verdict: str = ""
    """Against the first run; empty for that one, and where nothing can be said."""


def compare_ratio(first: Interval | None, other: Interval | None, ratio: Interval | None, *, less: bool) -> str:
    """The verdict on a time, or on a speed-up.

    Args:
        first: of the first run.
        other: of the other one.
        ratio: of other to first, where the same images were timed; None: the intervals are all there is.
        less: less is better.
    """
    if first is None or other is None or not first.low or not first.high:
        return ""
    low, high = (ratio.low, ratio.high) if ratio else (other.low / first.high, other.high / first.low)
    if low >= 1 - SAME_TIME and high <= 1 + SAME_TIME:
        return SAME
    if low > 1:
        return WORSE if less else BETTER
    return (BETTER if less else WORSE) if high < 1 else OPEN


def compare_mean(first: Quality | None, other: Quality | None, difference: Interval | None, same: float) -> str:
    """The verdict on the mean of a metric.

    Args:
        first: of the first run.
        other: of the other one.
        difference: other less first, over the same images; None: the intervals are all there is.
        same: the difference up to which means count as the same.
    """
    if first is None or other is None:
        return ""
    a, b = first.mean, other.mean
    low, high = (difference.low, difference.high) if difference else (b.low - a.high, b.high - a.low)
    if other.less_is_better:
        low, high = -high, -low
    if -same <= low and high <= same:
        return SAME
    return BETTER if low > 0 else WORSE if high < 0 else OPEN


def pair(first: Row, other: Row, read: Callable[[SampleRecord], float | None], *, ratio: bool) -> Interval | None:
    """What changes from one run to the other, image by image; None where they are not of the same prompts and seeds.

    Args:
        first: a row with a record.
        other: another.
        read: the figure of an image.
        ratio: True: the ratio, as the geometric mean of those of the images; False: the mean of the differences.

    Returns:
        The value with its 95 % interval over prompts; infinite for one prompt, which says nothing of others.
    """
    ours, theirs = (_by_image(row, read) for row in (first, other))
    if not ours or ours.keys() != theirs.keys() or (ratio and min(*ours.values(), *theirs.values()) <= 0):
        return None
    changes: dict[str, list[float]] = {}
    for (prompt, seed), a in ours.items():
        b = theirs[prompt, seed]
        # Equal changes are to be equal: a bootstrap of differences by rounding alone has no interval.
        changes.setdefault(prompt, []).append(round(log(b / a) if ratio else b - a, DIGITS))
    low, high = find_mean_interval(changes)
    value = fmean(change for several in changes.values() for change in several)
    if not ratio:
        return Interval(value=value, low=low, high=high)
    return Interval(value=exp(value), low=exp(low), high=exp(min(high, MOST)))


def _by_image(row: Row, read: Callable[[SampleRecord], float | None]) -> dict[tuple[str, int], float]:
    """Figures by prompt and seed; of an image without any difference the PSNR that such a one counts as."""
    samples = row.record.samples if row.record else []
    values = {(sample.prompt, sample.seed): read(sample) for sample in samples}
    known = {image: min(value, IDENTICAL) for image, value in values.items() if value is not None}
    return known if len(known) == len(samples) else {}


def read_quality(metric: str) -> Callable[[SampleRecord], Any]:
    """Reads a metric of an image; the PSNR of one without any difference is null in records."""

    def read(sample: SampleRecord) -> Any:
        if sample.quality is None:
            return None
        value = getattr(sample.quality, metric)
        return inf if value is None and metric == "psnr" and sample.quality.mae == 0 else value

    return read


def read_judge(name: str) -> Callable[[SampleRecord], Any]:
    """Reads what a judge says of an image."""
    return lambda sample: (sample.metrics or {}).get(name)
