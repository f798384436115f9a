"""Claimed figures: how they are rounded, and what their bounds are."""

from __future__ import annotations

from ..config.claim import ClaimedFigure
from ..records.quality_summary import Quality

DIGITS = 6
"""Significant digits of a claimed figure. Smaller differences are rounding."""


def rounding_error(value: float) -> float:
    """The largest difference from a claimed figure that rounding to `DIGITS` digits explains."""
    return abs(value) * 10.0 ** (1 - DIGITS)


def get_bounds(figure: ClaimedFigure) -> tuple[float, float]:
    """The interval of a figure, low and high; the value itself stands in for a bound that is not known."""
    low = figure.value if figure.low is None else figure.low
    return low, figure.value if figure.high is None else figure.high


def build_figure(*, value: float, low: float | None, high: float | None, **others: float | None) -> ClaimedFigure:
    """A rounded figure, with its interval widened to hold the value.

    A ratio of medians may lie just outside the interval of the ratios.
    """
    fields = {
        "value": value,
        "low": None if low is None else min(low, value),
        "high": None if high is None else max(high, value),
        **others,
    }
    return ClaimedFigure(**{key: round_figure(number) for key, number in fields.items()})  # type: ignore[arg-type]


def round_figure(value: float | None) -> float | None:
    """The value with `DIGITS` significant digits."""
    return None if value is None else float(f"{value:.{DIGITS}g}")


def build_quality_figure(quality: Quality, *, several: bool, **floors: float | None) -> ClaimedFigure:
    """The figure of a metric. The quality of a single image has no interval.

    Args:
        quality: over the images of a run.
        several: whether there is more than one.
        floors: `noise_floor` and `repeat_floor`.
    """
    return build_figure(
        value=quality.mean.value,
        low=quality.mean.low if several else None,
        high=quality.mean.high if several else None,
        median=quality.median if several else None,
        p10=quality.p10 if several else None,
        worst=quality.worst,
        **floors,
    )
