"""Builds the claim of a completed run: the figures that an exported experiment states. `verdict.py` verifies them."""

from __future__ import annotations

from dataclasses import asdict
from hashlib import sha256
from math import isfinite
from statistics import median

from ..config.claim import ClaimConfig, ClaimedFigure
from ..metrics.forks import FORK
from ..metrics.values import is_less_better, list_metrics
from ..records.quality_summary import worst_noise_floor
from ..records.record import Record
from ..records.reference import describe_reference, has_other_reference
from ..records.summary import Summary, summarize_record
from .figures import build_figure, build_quality_figure, get_bounds, round_figure, rounding_error

QUALITY_METRICS = ("ssim", "mae_similarity", "mae", "psnr")
METRIC_RANGES = {"ssim": (-1.0, 1.0), "mae_similarity": (0.0, 1.0), "mae": (0.0, 255.0), "psnr": (0.0, 200.0)}
"""Smallest and largest possible value. One grey level in one of a billion pixels is a PSNR of about 140 dB."""
WORSE_THAN = (("worst", "value"), ("worst", "p10"), ("p10", "median"))
"""Fields of a figure, of which the first can be no better than the second."""
MAE_TOLERANCE = 1e-5
"""`mae_similarity` and `1 - mae / 255` may differ by this much, because both are rounded."""
CONFIG_DIFFERS = "the config or the weights differ from the claimed ones"
"""The difference where prompts, versions, hardware and code agree but the fingerprint does not."""


def build_claim(record: Record) -> ClaimConfig:
    """Returns the figures that a completed record supports.

    Intervals are 95 % bootstrap intervals, as in a report: all images of a prompt are drawn together. The quality of a
    single image has no interval.

    The claim has no speed-up where run and reference were not timed in the same run, since that ratio is only an
    estimate. `mad` of the seconds is the median absolute deviation of all timings, as in results.csv; `repeat_floor` is
    that of repeated timings of the same work, see `compute_time_deviation`. A single timing has neither interval nor
    deviation.
    """
    environment, summary = record.environment, summarize_record(record)
    claim = ClaimConfig(
        reference=describe_reference(record),
        computed_share=round_figure(summary.computed_share),
        prompts=len(record.plan.prompts),
        prompts_sha256=hash_prompts(record),
        pixels_sha256=[sample.pixels_sha256 for sample in record.samples],
        fingerprint=record.fingerprint,
        device_name=environment.device_name,
        code=environment.code,
        commit=environment.commit,
        versions=dict(environment.versions),
    )
    _add_timing(claim, record, summary)
    _add_quality(claim, record, summary)
    return claim


def _add_timing(claim: ClaimConfig, record: Record, summary: Summary) -> None:
    timing, seconds = record.timing, summary.seconds
    if timing is None:
        return
    if timing.median is not None and timing.median <= 0:
        raise ValueError("its times are 0")
    single = len(timing.raw) == 1  # of one timing there is no spread
    if timing.median is not None and seconds:
        deviation = compute_time_deviation(record)
        claim.seconds = build_figure(
            value=timing.median,
            low=None if single else seconds.low,
            high=None if single else seconds.high,
            mad=None if single else timing.mad,
            repeat_floor=None if deviation is None else deviation * timing.median,
        )
    if timing.speedup is not None and (interval := summary.speedup_interval):
        low, high = (None, None) if single else (interval.low, interval.high)
        claim.speedup = build_figure(value=timing.speedup, low=low, high=high)


def is_single_timing(claim: ClaimConfig) -> bool:
    """Whether the time of a claim is that of one image, timed once: nothing is known of how much it varies.

    Claims of earlier versions have an interval of no width and a deviation of 0 there.
    """
    figure = claim.seconds
    if figure is None or len(claim.pixels_sha256) != 1:
        return False
    return figure.repeat_floor is None and not figure.mad and get_bounds(figure) == (figure.value, figure.value)


def _add_quality(claim: ClaimConfig, record: Record, summary: Summary) -> None:
    several = len(record.samples) > 1
    for metric in QUALITY_METRICS:
        quality = summary.quality.get(metric)
        if quality is None:
            continue
        figure = build_quality_figure(
            quality,
            several=several,
            noise_floor=worst_noise_floor(record, metric),
            repeat_floor=worst_noise_floor(record, metric, ("repeat",)),
        )
        setattr(claim, metric, figure)
    for name, quality in summary.metrics.items():
        claim.metrics[name] = build_quality_figure(quality, several=several)
    claim.forks = summary.forks.count if summary.forks else None


def hash_prompts(record: Record) -> str:
    """SHA-256 of the record's prompts, one prompt per line."""
    return sha256("\n".join(record.plan.prompts).encode()).hexdigest()


def find_differences(claim: ClaimConfig, record: Record) -> list[str]:
    """Lists what may explain a different result: prompts, reference, versions, hardware, code.

    Where none of these differs but the fingerprint does, the list holds only `CONFIG_DIFFERS`.
    """
    differences = ["different prompts"] if claim.prompts_sha256 != hash_prompts(record) else []
    if has_other_reference(record, claim.reference):
        differences.append(f"reference {claim.reference} -> {describe_reference(record)}")
    differences += find_environment_changes(claim, record)
    return differences or ([CONFIG_DIFFERS] if claim.fingerprint != record.fingerprint else [])


def find_environment_changes(claim: ClaimConfig, record: Record) -> list[str]:
    """Lists the versions, hardware and code that differ from the claim's; they may change how a figure is computed."""
    environment = record.environment
    now = {**environment.versions, "device": environment.device_name, "code": environment.code}
    then = {**claim.versions, "device": claim.device_name, "code": claim.code}
    return [f"{key} {then.get(key)} -> {now.get(key)}" for key in {**now, **then} if then.get(key) != now.get(key)]


def find_contradictions(claim: ClaimConfig) -> list[str]:
    """Lists the figures of a claim that no run can have measured. A claim from `build_claim` has none."""
    problems = []
    for name in ("seconds", "speedup", *QUALITY_METRICS):
        figure: ClaimedFigure | None = getattr(claim, name)
        if figure is not None:
            problems += [f"{name} {problem}" for problem in _find_problems(name, figure)]
    for judge, figure in claim.metrics.items():
        if judge in list_metrics():  # of another plugin's, nobody knows the direction here
            problems += [f"metrics.{judge} {problem}" for problem in _find_problems(judge, figure)]
    if claim.mae is not None and claim.mae_similarity is not None:
        expected = 1 - claim.mae.value / 255
        if abs(claim.mae_similarity.value - expected) > MAE_TOLERANCE:
            problems.append(f"mae_similarity {claim.mae_similarity.value:.6g} is not 1 - mae / 255, {expected:.6g}")
    problems += _find_fork_problems(claim)
    share = claim.computed_share
    if share is not None and not isfinite(share):
        problems.append(f"computed_share {share:.6g} is not finite")
    elif share is not None and share < 0:
        problems.append(f"computed_share {share:.6g} is below 0")
    return problems


def _find_problems(name: str, figure: ClaimedFigure) -> list[str]:
    """What is impossible about one figure; of a figure that is not finite, only that."""
    fields = {key: value for key, value in asdict(figure).items() if value is not None}
    not_finite = [f"{_label(key)}{value:.6g} is not finite" for key, value in fields.items() if not isfinite(value)]
    if not_finite:
        return not_finite
    mean, (low, high), rounding = figure.value, get_bounds(figure), rounding_error(figure.value)
    problems = [
        f"{_label(key)}{value:.6g} {problem}"
        for key, value in fields.items()
        if (problem := _check_range(name, key, value))
    ]
    if not low - rounding <= mean <= high + rounding:
        problems.append(f"{mean:.6g} is outside its own interval, {low:.6g} to {high:.6g}")
    for worse, better in WORSE_THAN:
        least, most = fields.get(worse), fields.get(better)
        if least is not None and most is not None and (least - most) * improvement_sign(name) > rounding_error(most):
            than = "mean" if better == "value" else better
            problems.append(f"{worse} {least:.6g} is better than the {than} {most:.6g}")
    return problems


def _find_fork_problems(claim: ClaimConfig) -> list[str]:
    """What is impossible about the number of forks; nothing where it is not claimed."""
    forks, images, worst = claim.forks, len(claim.pixels_sha256), claim.ssim.worst if claim.ssim else None
    if forks is None:
        return []
    if not 0 <= forks <= images:
        return [f"forks {forks} is not within 0 to {images}, the number of images"]
    # Rounding may lift the worst image to the limit, and no further.
    if worst is not None and (worst < FORK if forks == 0 else worst > FORK):
        return [f"forks {forks} does not fit ssim worst {worst:.6g}: a fork is an image below {FORK:g}"]
    return []


def _label(field: str) -> str:
    return "" if field == "value" else f"{field} "


def _check_range(name: str, field: str, value: float) -> str:
    """What is wrong with a value, or an empty text.

    Every field of a quality figure is a quality in the same unit. The other fields of a time are deviations, which may
    be 0.
    """
    if name in METRIC_RANGES:
        smallest, largest = METRIC_RANGES[name]
        return "" if smallest <= value <= largest else f"is not within {smallest:g} to {largest:g}"
    if name in list_metrics():
        return ""
    if field in ("value", "low", "high"):
        return "" if value > 0 else "is not above 0"
    return "" if value >= 0 else "is below 0"


def improvement_sign(name: str) -> int:
    """1 where a larger figure is better, -1 where a smaller one is."""
    if name in ("seconds", "computed_share", "forks"):
        return -1
    return -1 if name in list_metrics() and is_less_better(name) else 1


def compute_time_deviation(record: Record) -> float | None:
    """Median absolute deviation of timings of the same work, as a fraction of their median.

    Taken from the repetitions of each image, otherwise from the references, which all do the same work. Different
    images are not compared with each other, because a cache has more hits in some than in others.

    Returns:
        None where nothing was timed twice.
    """
    repeated = [sample.raw_seconds for sample in record.samples if len(sample.raw_seconds) > 1]
    references = [seconds for sample in record.samples for seconds in sample.reference_raw_seconds or ()]
    groups = repeated or ([references] if len(references) > 1 else [])
    medians = [(group, median(group)) for group in groups]
    deviations = [abs(seconds / middle - 1) for group, middle in medians if middle for seconds in group]
    return median(deviations) if deviations else None
