"""Computes how far a measured figure may be from a claimed one and still count as noise.

What the new run measured counts in full. The interval and the noise floors that a claim states about itself come from
whoever wrote it, so they count only up to a cap; otherwise a claim could be written that never fails.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

from ..config.claim import ClaimConfig, ClaimedFigure
from ..records.quality_summary import worst_noise_floor
from ..records.record import Record
from .claim import compute_time_deviation, find_differences, improvement_sign, is_single_timing
from .figures import get_bounds

PERFECT = {"ssim": 1.0, "mae_similarity": 1.0, "mae": 0.0}
INVISIBLE = {"ssim": 1e-3, "mae_similarity": 4e-4, "mae": 0.1, "psnr": 0.1, "computed_share": 1e-3}
"""Differences that nobody sees, allowed even where no noise floor was measured: a tenth of a grey level of 255, and
about the same in the other metrics. Another kernel of the same library changes a mean by this much."""
CLAIM_CAP = {"ssim": 0.05, "mae_similarity": 5 / 255, "mae": 5.0, "psnr": 3.0}
"""How far from its value a claim's own interval and noise floors can move the limit together: about fifty times what
nobody sees; 3 dB are an error 1.4 times as large. A claim with a wider interval says too little."""
LARGEST_PSNR_GAP = 200.0
"""In dB. No two PSNRs of 8-bit images are this far apart."""
DEVIATIONS = 3
"""How many robust standard deviations count as noise."""
MACHINE_NOISE = 0.05
"""Fraction of a time that always counts as noise between two processes on one machine: memory layout, clock rate."""
TIME_CAP = 0.25
"""Largest fraction of a time that counts as noise, whether measured or stated by a claim. On a machine that is busier
than this, no claim would ever fail."""
MAD_TO_STANDARD_DEVIATION = 1.4826
"""A median absolute deviation times this factor estimates the standard deviation of normally distributed values."""


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The part of a claimed interval that counts, and the noise by which its worse bound is widened."""

    low: float
    high: float
    noise: float
    """In the unit of a quality metric; for seconds and speed-ups, a fraction of the time."""
    capped: bool
    """Whether the claim states a wider interval or more noise than is allowed."""


def compute_quality_tolerance(metric: str, claim: ClaimConfig, record: Record) -> Tolerance:
    """Tolerance of a quality metric when the images differ from the claimed ones.

    The noise floor of different numerics counts only where versions, hardware, code, prompts or config differ.
    """
    figure: ClaimedFigure = getattr(claim, metric)
    claimed_floors, measured_floors = [figure.repeat_floor], [worst_noise_floor(record, metric, ("repeat",))]
    if find_differences(claim, record):
        claimed_floors.append(figure.noise_floor)
        measured_floors.append(worst_noise_floor(record, metric))
    smallest, largest = figure.value - CLAIM_CAP[metric], figure.value + CLAIM_CAP[metric]
    low, high = _clip_bounds(figure, smallest, largest)
    remaining = low - smallest if improvement_sign(metric) > 0 else largest - high
    claimed = [_convert_floor(metric, figure.value, floor) for floor in claimed_floors if floor is not None]
    measured = [_convert_floor(metric, figure.value, floor) for floor in measured_floors if floor is not None]
    return _build_tolerance(
        figure,
        (low, high),
        claimed=max(claimed, default=0.0),
        measured=max([INVISIBLE[metric], *measured]),
        cap=remaining,
    )


def compute_time_tolerance(name: str, claim: ClaimConfig, record: Record) -> Tolerance:
    """Tolerance of `seconds` or `speedup` on the same hardware."""
    figure: ClaimedFigure = getattr(claim, name)
    smallest, largest = figure.value / (1 + TIME_CAP), figure.value * (1 + TIME_CAP)
    low, high = _clip_bounds(figure, smallest, largest)
    # A time may be longer by this fraction; a ratio is divided by one plus the same fraction.
    remaining = 0.0
    if figure.value > 0:
        remaining = low / smallest - 1 if name == "speedup" else (largest - high) / figure.value
    measured = min(TIME_CAP, max(MACHINE_NOISE, _scale_deviation(compute_time_deviation(record) or 0.0)))
    seconds, claimed = claim.seconds, 0.0
    if seconds is not None and seconds.repeat_floor is not None and seconds.value > 0:
        claimed = _scale_deviation(seconds.repeat_floor / seconds.value)
    if is_single_timing(claim):  # nobody knows its spread
        claimed = TIME_CAP
    return _build_tolerance(figure, (low, high), claimed=claimed, measured=measured, cap=remaining)


def _build_tolerance(
    figure: ClaimedFigure, interval: tuple[float, float], *, claimed: float, measured: float, cap: float
) -> Tolerance:
    """`cap` is what the claim's interval leaves of the cap for the claim's noise floors."""
    noise = max(measured, min(claimed, cap))
    capped = interval != get_bounds(figure) or claimed > noise
    return Tolerance(low=interval[0], high=interval[1], noise=noise, capped=capped)


def _clip_bounds(figure: ClaimedFigure, smallest: float, largest: float) -> tuple[float, float]:
    low, high = get_bounds(figure)
    return max(low, smallest), min(high, largest)


def _convert_floor(metric: str, value: float, floor: float) -> float:
    """How much a metric may be off, given the quality of the reference against itself.

    For PSNR, the number of dB by which the error at the noise floor adds to the error at `value`.
    """
    if metric == "psnr":
        return 20 * log10(1 + 10 ** (min(value - floor, LARGEST_PSNR_GAP) / 20))
    return abs(PERFECT[metric] - floor)


def _scale_deviation(fraction: float) -> float:
    return DEVIATIONS * MAD_TO_STANDARD_DEVIATION * fraction
