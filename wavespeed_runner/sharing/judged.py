"""Verifies what a claim says of the judges of the config group `metrics`."""

from __future__ import annotations

from ..config.claim import ClaimConfig, ClaimedFigure
from ..errors import make_printable
from ..records.record import Record
from .figures import get_bounds
from .parts import VERDICTS, PartVerdict, compare_figure, format_figure, report_missing

FIELDS = ("value", "median", "p10", "worst")
"""Fields that the same images have again."""
NOISE = 0.01
"""Fraction of a value that counts as noise. A judge's unit is its own, so nothing is known of what can be seen."""
CAP = 0.1
"""Fraction of its value that a claim's own interval counts for at most."""


def verify_judges(claim: ClaimConfig, record: Record, measured: ClaimConfig, *, same: bool) -> list[PartVerdict]:
    """The verdict on the figure of each judge.

    Args:
        claim: what is verified.
        record: of the new run.
        measured: its claim.
        same: both have the same images, pixel for pixel.
    """
    return [_verify(name, figure, record, measured, same=same) for name, figure in claim.metrics.items()]


def _verify(name: str, figure: ClaimedFigure, record: Record, measured: ClaimConfig, *, same: bool) -> PartVerdict:
    label = make_printable(f"metrics.{name}")
    if name not in (record.config.get("metrics") or {}):
        return PartVerdict(name=label, verdict=None, text=f"claimed {figure.value:.5g}; not asked for here")
    now = measured.metrics.get(name)
    if now is None:
        return report_missing(label, figure, record)
    text = format_figure(now.value, figure)
    if same:
        return _verify_same_images(name, label, figure, now, text)
    low, high, noise = find_allowed(figure)
    verdict, better = compare_figure(name, now.value, low, high, noise)
    return PartVerdict(name=label, verdict=verdict, text=text, better=better)


def find_allowed(figure: ClaimedFigure) -> tuple[float, float, float]:
    """The part of a claimed interval that counts, low and high, and the noise by which its worse end is widened."""
    reach = CAP * abs(figure.value)
    low, high = (min(max(bound, figure.value - reach), figure.value + reach) for bound in get_bounds(figure))
    return low, high, NOISE * abs(figure.value)


def _verify_same_images(name: str, label: str, figure: ClaimedFigure, now: ClaimedFigure, text: str) -> PartVerdict:
    """Each field is to be the same, but for what another machine's network computes otherwise."""
    verdicts, better = [], False
    for field in FIELDS:
        then, again = getattr(figure, field), getattr(now, field)
        if then is not None and again is not None:
            verdict, is_better = compare_figure(name, again, then, then, NOISE * abs(then))
            verdicts.append(verdict)
            better = better or is_better
    return PartVerdict(name=label, verdict=max(verdicts, key=VERDICTS.index), text=text, better=better)
