"""What the verdict on one part of a claim is, and how a figure is compared with a claimed one."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from ..config.claim import ClaimedFigure
from ..records.record import Record
from .claim import improvement_sign
from .figures import get_bounds, rounding_error

REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED = "reproduced", "within noise", "not reproduced"
VERDICTS = (REPRODUCED, WITHIN_NOISE, NOT_REPRODUCED)
"""From best to worst."""
CLAIM, IMAGES, REFERENCE = "claim", "images", "reference"
"""Parts of a claim that are not figures."""


@dataclass(frozen=True, kw_only=True)
class PartVerdict:
    """The verdict on one part of a claim, and the text that explains it."""

    name: str
    verdict: str | None
    """None where the part cannot be compared."""
    text: str
    better: bool = False
    """Better than claimed, by more than noise."""


def report_missing(name: str, figure: ClaimedFigure, record: Record) -> PartVerdict:
    """A figure that was claimed and not measured again is not reproduced."""
    reasons = {"none": " (measure.reference=false)", "self": " (no lossy option is on, so there is nothing to compare)"}
    text = f"claimed {figure.value:.5g}, not measured again{reasons.get(record.reference.kind, '')}"
    return PartVerdict(name=name, verdict=NOT_REPRODUCED, text=text)


def compare_figure(name: str, now: float, low: float, high: float, noise: float) -> tuple[str, bool]:
    """The verdict on a figure, and whether it is better than claimed by more than noise.

    NaN is not reproduced and not better.
    """
    more_is_better = improvement_sign(name) > 0
    shortfall, surplus = (low - now, now - high) if more_is_better else (now - high, low - now)
    rounding = rounding_error(low if more_is_better else high)
    if shortfall <= rounding:
        return REPRODUCED, surplus > noise + rounding
    return (WITHIN_NOISE if shortfall <= noise + rounding else NOT_REPRODUCED), False


def format_figure(now: float, figure: ClaimedFigure) -> str:
    """`0.9812, claimed 0.98 (0.97 to 0.99)`."""
    low, high = get_bounds(figure)
    interval = f" ({low:.5g} to {high:.5g})" if low != high else ""
    measured = f"{now:.5g}" if now != inf else "identical to the reference"
    return f"{measured}, claimed {figure.value:.5g}{interval}"
