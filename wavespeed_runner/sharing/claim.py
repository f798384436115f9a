"""What a run claims of its result, and what can be said of a claim without judging it (that is `claim_verdict.py`)."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from math import isfinite
from statistics import median

from ..config.claim import ClaimConfig, ClaimedFigure
from ..metrics.quality import LESS_IS_BETTER
from ..metrics.statistics import bootstrap_interval
from ..records.record import Record
from ..records.summary import summarize_record, worst_noise_floor

LIKENESS = ("ssim", "mae_similarity", "mae", "psnr")
RANGES = {"ssim": (-1.0, 1.0), "mae_similarity": (0.0, 1.0), "mae": (0.0, 255.0), "psnr": (0.0, 200.0)}
"""Of likeness; one grey level in one of a billion pixels is a PSNR of about 140 dB."""
DIGITS = 6
"""Significant ones of a claimed figure; less than this is rounding."""
SAME = 1e-5
"""How far a MAE and the similarity that is computed from it may be apart, both rounded."""
OTHER_CONFIG = "the config or the weights are not those that were claimed"
"""Where prompts, versions, hardware and code are the same, and the fingerprint is not."""


def claim_of(record: Record) -> ClaimConfig:
    """Makes the claim of a completed record.

    Intervals are 95 % ones, as in a report: all images of a prompt are drawn together; the quality of a single image
    has none.

    No speed-up where run and reference were not timed in turn: that ratio is a guess. Of the seconds, `mad` is the
    median absolute deviation of all timings, as in the table and in results.csv; `repeat_floor` that of timings of the
    same work, see `deviation`.
    """
    summary = summarize_record(record)
    samples, timing, environment = record.samples, record.timing, record.environment
    claim = ClaimConfig(
        computed_share=_rounded(summary.computed_share),
        prompts=len(record.plan.prompts),
        prompts_sha256=prompts_digest(record),
        pixels_sha256=[sample.pixels_sha256 for sample in samples],
        fingerprint=record.fingerprint,
        device_name=environment.device_name,
        code=environment.code,
        commit=environment.commit,
        versions=dict(environment.versions),
    )
    if timing and timing.median is not None and summary.seconds:
        part = deviation(record)
        again = None if part is None else part * timing.median
        claim.seconds = _figure(
            value=timing.median, low=summary.seconds.low, high=summary.seconds.high, mad=timing.mad, repeat_floor=again
        )
    if timing and timing.speedup is not None and timing.same_run:
        pairs = [(s.prompt, s.reference_seconds / s.seconds) for s in samples if s.reference_seconds and s.seconds]
        ratios = bootstrap_interval(pairs, "median")
        claim.speedup = _figure(value=timing.speedup, low=ratios.low, high=ratios.high)
    for metric in LIKENESS:
        figure = summary.quality.get(metric)
        if figure is not None:
            several = len(samples) > 1
            own = _figure(
                value=figure.mean.value,
                low=figure.mean.low if several else None,
                high=figure.mean.high if several else None,
                worst=figure.worst,
                noise_floor=worst_noise_floor(record, metric),
                repeat_floor=worst_noise_floor(record, metric, ("repeat",)),
            )
            setattr(claim, metric, own)
    return claim


def prompts_digest(record: Record) -> str:
    """Digest of the prompts in their order."""
    return sha256("\n".join(record.plan.prompts).encode()).hexdigest()


def differences(claim: ClaimConfig, record: Record) -> list[str]:
    """What may make the same config give other results: prompts, versions, hardware, code; else an `other_config`."""
    found = ["other prompts"] if claim.prompts_sha256 != prompts_digest(record) else []
    found += other_machine(claim, record)
    return found or ([OTHER_CONFIG] if claim.fingerprint != record.fingerprint else [])


def other_machine(claim: ClaimConfig, record: Record) -> list[str]:
    """Those of the `differences` that may change how a figure is computed: versions, hardware and code."""
    environment = record.environment
    now = {**environment.versions, "device": environment.device_name, "code": environment.code}
    then = {**claim.versions, "device": claim.device_name, "code": claim.code}
    return [f"{key} {then.get(key)} -> {now.get(key)}" for key in {**now, **then} if then.get(key) != now.get(key)]


def contradictions(claim: ClaimConfig) -> list[str]:
    """What no run can have measured; a `claim_of` has none."""
    found = []
    for name in ("seconds", "speedup", *LIKENESS):
        figure: ClaimedFigure | None = getattr(claim, name)
        if figure is not None:
            found += [f"{name} {wrong}" for wrong in _impossible(name, figure)]
    if claim.mae is not None and claim.mae_similarity is not None:
        by_mae = 1 - claim.mae.value / 255
        if abs(claim.mae_similarity.value - by_mae) > SAME:
            found.append(f"mae_similarity {claim.mae_similarity.value:.6g} is not 1 - mae / 255, {by_mae:.6g}")
    share = claim.computed_share
    if share is not None and not isfinite(share):
        found.append(f"computed_share {share:.6g} is not finite")
    elif share is not None and share < 0:
        found.append(f"computed_share {share:.6g} is below 0")
    return found


def _impossible(name: str, figure: ClaimedFigure) -> list[str]:
    parts = {key: one for key, one in asdict(figure).items() if one is not None}
    endless = [f"{_part(key)}{one:.6g} is not finite" for key, one in parts.items() if not isfinite(one)]
    if endless:
        return endless
    value, (low, high), room = figure.value, bounds(figure), rounding(figure.value)
    found = [f"{_part(key)}{one:.6g} {wrong}" for key, one in parts.items() if (wrong := _out_of_range(name, key, one))]
    if not low - room <= value <= high + room:
        found.append(f"{value:.6g} lies outside its own {low:.6g} to {high:.6g}")
    if figure.worst is not None and (figure.worst - value) * better(name) > room:
        found.append(f"worst {figure.worst:.6g} is better than the mean {value:.6g}")
    return found


def _part(key: str) -> str:
    return "" if key == "value" else f"{key} "


def _out_of_range(name: str, part: str, value: float) -> str:
    """What is wrong with it; bounds, worst and floors of a likeness are likenesses, and of a time deviations are."""
    if name in RANGES:
        least, most = RANGES[name]
        return "" if least <= value <= most else f"is not within {least:g} to {most:g}"
    if part in ("value", "low", "high"):
        return "" if value > 0 else "is not above 0"
    return "" if value >= 0 else "is below 0"


def better(name: str) -> int:
    """1 where more of a figure is better, -1 where less is."""
    return -1 if name in (*LESS_IS_BETTER, "seconds", "computed_share") else 1


def rounding(value: float) -> float:
    """How far a figure and the claimed one may be apart and be the same."""
    return abs(value) * 10.0 ** (1 - DIGITS)


def bounds(figure: ClaimedFigure) -> tuple[float, float]:
    """The value itself where no interval is known."""
    low = figure.value if figure.low is None else figure.low
    return low, figure.value if figure.high is None else figure.high


def deviation(record: Record) -> float | None:
    """Relative median absolute deviation of times of the same work; None where it is unknown.

    Of the repetitions of each image, else of the references, which all compute the same. Not of the images: a cache
    hits more often in some.
    """
    repeated = [sample.raw_seconds for sample in record.samples if len(sample.raw_seconds) > 1]
    references = [seconds for sample in record.samples for seconds in sample.reference_raw_seconds or ()]
    groups = repeated or ([references] if len(references) > 1 else [])
    parts = [abs(one / median(group) - 1) for group in groups if median(group) for one in group]
    return median(parts) if parts else None


def _figure(*, value: float, low: float | None, high: float | None, **others: float | None) -> ClaimedFigure:
    """The value may lie just outside of the interval, such as a ratio of medians outside of that of the ratios."""
    figures = {
        "value": value,
        "low": None if low is None else min(low, value),
        "high": None if high is None else max(high, value),
        **others,
    }
    return ClaimedFigure(**{key: _rounded(one) for key, one in figures.items()})  # type: ignore[arg-type]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{DIGITS}g}")
