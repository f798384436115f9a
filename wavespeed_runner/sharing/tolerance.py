"""How far a figure may be from a claimed one and mean nothing.

What was measured again counts as it is. What the claim says of itself, its interval and its floors, comes from whoever
wrote it: it counts up to a cap, or a claim could be written that cannot fail.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

from ..config.claim import ClaimConfig, ClaimedFigure
from ..records.record import Record
from ..records.summary import worst_noise_floor
from .claim import better, bounds, deviation, differences

PERFECT = {"ssim": 1.0, "mae_similarity": 1.0, "mae": 0.0}
LEAST = {"ssim": 1e-3, "mae_similarity": 4e-4, "mae": 0.1, "psnr": 0.1, "computed_share": 1e-3}
"""Differences that nobody sees, also where no noise floor was measured: a tenth of a grey level of 255, and what comes
to about the same in the others. Another kernel of the same library changes a mean by so much."""
CLAIMED = {"ssim": 0.05, "mae_similarity": 5 / 255, "mae": 5.0, "psnr": 3.0}
"""How far from its value a claim's own interval and floors may take the judgement, together: about fifty
times what nobody sees; 3 dB are an error of 1.4 times. A wider interval says too little to be claimed by."""
FARTHEST = 200.0
"""Decibels: no two PSNRs of 8-bit images are so far apart."""
SPREADS = 3
SAME_MACHINE = 0.05
"""Part of a time that is put down to another process on the same machine: other memory, another clock rate."""
MOST = 0.25
"""Largest part of a time that counts as noise, of what was measured and of what a claim says of itself: on a machine
that is busier than this, no claim would ever fail."""
TO_STANDARD_DEVIATION = 1.4826
"""A median absolute deviation times this estimates the standard deviation of normal values."""


@dataclass(frozen=True, kw_only=True)
class Room:
    """The bounds of a claimed figure that count, and by how much the worse one is widened."""

    low: float
    high: float
    widening: float
    """Of a likeness in its own unit; of times and speed-ups the part of a time."""
    capped: bool
    """Whether the claim asks for more than it is given."""


def likeness_room(metric: str, claim: ClaimConfig, record: Record) -> Room:
    """Of other images; the floor of other numerics counts where something differs."""
    figure: ClaimedFigure = getattr(claim, metric)
    theirs, ours = [figure.repeat_floor], [worst_noise_floor(record, metric, ("repeat",))]
    if differences(claim, record):
        theirs.append(figure.noise_floor)
        ours.append(worst_noise_floor(record, metric))
    least, most = figure.value - CLAIMED[metric], figure.value + CLAIMED[metric]
    low, high = _within(figure, least, most)
    left = low - least if better(metric) > 0 else most - high
    claimed = max((_by_floor(metric, figure.value, floor) for floor in theirs if floor is not None), default=0.0)
    found = max([LEAST[metric], *(_by_floor(metric, figure.value, floor) for floor in ours if floor is not None)])
    return _room(figure, low, high, claimed, found, left)


def time_room(name: str, claim: ClaimConfig, record: Record) -> Room:
    """Of seconds or a speed-up on the same hardware."""
    figure: ClaimedFigure = getattr(claim, name)
    least, most = figure.value / (1 + MOST), figure.value * (1 + MOST)
    low, high = _within(figure, least, most)
    # A time may be so much longer than claimed; a ratio is divided by as much.
    left = 0.0
    if figure.value > 0:
        left = low / least - 1 if name == "speedup" else (most - high) / figure.value
    found = min(MOST, max(SAME_MACHINE, _spread(deviation(record) or 0.0)))
    timed = claim.seconds
    known = timed is not None and timed.repeat_floor is not None and timed.value > 0
    claimed = _spread(timed.repeat_floor / timed.value) if known else 0.0  # type: ignore[union-attr, operator]
    return _room(figure, low, high, claimed, found, left)


def _room(figure: ClaimedFigure, low: float, high: float, claimed: float, found: float, left: float) -> Room:
    """`left`: what the claim's interval has left of its cap for the claim's floors."""
    widening = max(found, min(claimed, left))
    return Room(low=low, high=high, widening=widening, capped=(low, high) != bounds(figure) or claimed > widening)


def _within(figure: ClaimedFigure, least: float, most: float) -> tuple[float, float]:
    low, high = bounds(figure)
    return max(low, least), min(high, most)


def _by_floor(metric: str, value: float, floor: float) -> float:
    """By how much a likeness may be off where the reference is so like itself; of PSNR, what the floor's error adds."""
    if metric == "psnr":
        return 20 * log10(1 + 10 ** (min(value - floor, FARTHEST) / 20))
    return abs(PERFECT[metric] - floor)


def _spread(part: float) -> float:
    return SPREADS * TO_STANDARD_DEVIATION * part
