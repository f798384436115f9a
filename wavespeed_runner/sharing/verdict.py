"""Verifies a claim against another run, figure by figure.

    reproduced       the same images, pixel for pixel, with the claimed quality and computed share; or different images
                     whose quality and computed share are within the claimed interval or better; and, on the same
                     hardware, the claimed speed or more
    within noise     the same with wider limits. A quality metric may be off by the larger noise floor of the two runs,
                     at least by `INVISIBLE`; the share by one step per image; a time by `DEVIATIONS` robust standard
                     deviations of repeated timings of the same work, in the run that varies more, at least by
                     `MACHINE_NOISE` and at most by `TIME_CAP` of itself. A speed-up is divided accordingly
    not reproduced   anything else: a worse figure, a claimed figure that was not measured again, a claim that
                     contradicts itself, a claimed speed-up where the run has none, another reference

A claim's own interval and noise floors count up to `CLAIM_CAP` from its value, or `TIME_CAP` of a time; see
`tolerance.py`.

A figure that is better than claimed does not fail, but is reported: quality that is far too good may mean that an
option did not take effect, which the share and the speed-up then show. The same images must have the same figures, so
only rounding is allowed there, also for the worst image and the intervals. Where hardware, versions or code differ,
`INVISIBLE` is allowed, and any interval.

Speed is verified only on a device of the same name. The noise floor of different numerics counts only where something
differs; otherwise only that of the repeated reference does. The overall verdict is the worst one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from ..config.claim import ClaimConfig, ClaimedFigure
from ..metrics.forks import FORK
from ..metrics.timing import is_too_fast
from ..records.plausible import find_most_gain
from ..records.record import Record
from ..records.reference import describe_reference, has_other_reference
from .claim import (
    QUALITY_METRICS,
    build_claim,
    find_contradictions,
    find_environment_changes,
    is_single_timing,
)
from .judged import verify_judges
from .parts import (
    CLAIM,
    IMAGES,
    NOT_REPRODUCED,
    REFERENCE,
    REPRODUCED,
    VERDICTS,
    PartVerdict,
    compare_figure,
    format_figure,
    report_missing,
)
from .tolerance import (
    CLAIM_CAP,
    INVISIBLE,
    TIME_CAP,
    Tolerance,
    compute_quality_tolerance,
    compute_time_tolerance,
)

SINGLE = "claimed from a single timing, whose spread nobody knows"
SAME_FIELDS = ("value", "median", "p10", "worst")
"""Fields of a figure of quality that the same images have, but for an invisible difference."""


def verify_claim(claim: ClaimConfig, record: Record) -> list[PartVerdict]:
    """Verifies every part of a claim that can be compared with a completed record."""
    measured = build_claim(record)
    problems = find_contradictions(claim)
    speedup, share = claim.speedup.value if claim.speedup else None, claim.computed_share
    if is_too_fast(speedup, share, gain=find_most_gain(record)):
        problems.append(f"speedup {speedup:.6g} is impossible when a share of {share:.6g} is computed")
    text = f"contradicts itself: {'; '.join(problems)}"
    contradiction = [PartVerdict(name=CLAIM, verdict=NOT_REPRODUCED, text=text)] if problems else []
    quality = [_verify_quality(metric, claim, record, measured) for metric in QUALITY_METRICS]
    counts = [_verify_forks(claim, record, measured), _verify_share(claim, record, measured)]
    parts = [_verify_images(claim, record, measured), verify_reference(claim, record), *quality, *counts]
    judges = verify_judges(claim, record, measured, same=has_same_images(claim, measured))
    return [*contradiction, *(part for part in parts if part is not None), *judges, *_verify_speed(claim, record)]


def combine_verdicts(parts: Sequence[PartVerdict]) -> str:
    """The worst verdict of all parts; `not reproduced` where nothing could be compared."""
    verdicts = [part.verdict for part in parts if part.verdict is not None]
    return max(verdicts, key=VERDICTS.index) if verdicts else NOT_REPRODUCED


def has_same_images(claim: ClaimConfig, measured: ClaimConfig) -> bool:
    """Whether both have the same images, pixel for pixel, and at least one."""
    return claim.pixels_sha256 == measured.pixels_sha256 != []


def _verify_images(claim: ClaimConfig, record: Record, measured: ClaimConfig) -> PartVerdict:
    """Where the images differ, their quality decides, if it was claimed and measured."""
    then, now = claim.pixels_sha256, measured.pixels_sha256
    same = sum(claimed == digest for claimed, digest in zip(then, now, strict=False))
    text = f"{same} of {max(len(then), len(now))} are the same, pixel for pixel"
    if has_same_images(claim, measured):
        return PartVerdict(name=IMAGES, verdict=REPRODUCED, text=text)
    has_quality = record.quality and any(getattr(claim, metric) is not None for metric in QUALITY_METRICS)
    return PartVerdict(name=IMAGES, verdict=None if has_quality else NOT_REPRODUCED, text=text)


def verify_reference(claim: ClaimConfig, record: Record) -> PartVerdict | None:
    """Figures against another sampler's or other steps' images say nothing about the claimed ones. None: the same."""
    if not has_other_reference(record, claim.reference):
        return None
    text = f"{describe_reference(record)}, claimed {claim.reference}"
    return PartVerdict(name=REFERENCE, verdict=NOT_REPRODUCED, text=text)


def _verify_quality(metric: str, claim: ClaimConfig, record: Record, measured: ClaimConfig) -> PartVerdict | None:
    """None where the metric was not claimed."""
    figure: ClaimedFigure | None = getattr(claim, metric)
    if figure is None:
        return None
    summary = getattr(record.quality, metric, None)
    if summary is None:
        return report_missing(metric, figure, record)
    if has_same_images(claim, measured):
        changed = bool(find_environment_changes(claim, record))
        return _verify_same_images(metric, figure, getattr(measured, metric), changed=changed)
    # PSNR has no mean where every image is identical to its reference.
    now = inf if summary.mean is None else summary.mean
    tolerance = compute_quality_tolerance(metric, claim, record)
    verdict, better = compare_figure(metric, now, tolerance.low, tolerance.high, tolerance.noise)
    text = f"{format_figure(now, figure)}, noise {tolerance.noise:.2g}"
    text += _mention_cap(tolerance, f"{CLAIM_CAP[metric]:.2g}")
    return PartVerdict(name=metric, verdict=verdict, text=text, better=better)


def _verify_same_images(
    metric: str, figure: ClaimedFigure, measured: ClaimedFigure | None, *, changed: bool
) -> PartVerdict:
    """Compares each field of a figure for the same images. In a changed environment the reference may differ."""
    if measured is None:
        return PartVerdict(name=metric, verdict=REPRODUCED, text=format_figure(inf, figure), better=True)
    text, verdicts, better = format_figure(measured.value, figure), [], False
    # Another version of scipy may draw other bootstrap samples, so the interval is not compared then.
    for field in SAME_FIELDS if changed else (*SAME_FIELDS, "low", "high"):
        then, now = getattr(figure, field), getattr(measured, field)
        if then is None or now is None:
            continue
        verdict, field_better = compare_figure(metric, now, then, then, INVISIBLE[metric] if changed else 0.0)
        verdicts.append(verdict)
        better = better or field_better
        if field != "value" and verdict != REPRODUCED:
            text += f"; {field} {now:.5g}, claimed {then:.5g}"
    return PartVerdict(name=metric, verdict=max(verdicts, key=VERDICTS.index), text=text, better=better)


def _verify_forks(claim: ClaimConfig, record: Record, measured: ClaimConfig) -> PartVerdict | None:
    """Compares the number of forks for the same images; other images fork elsewhere, and their mean is compared.

    In a changed environment the reference may differ invisibly, and an image next to the limit may cross it.
    """
    name, then, now = "forks", claim.forks, measured.forks
    if then is None:
        return None
    if now is None:
        return report_missing(name, ClaimedFigure(value=then), record)
    text = f"{now} of {len(measured.pixels_sha256)}, claimed {then} of {len(claim.pixels_sha256)}"
    if not has_same_images(claim, measured):
        return PartVerdict(name=name, verdict=None, text=f"{text}; not compared: other images")
    ssims = [sample.quality.ssim for sample in record.samples if sample.quality and sample.quality.ssim is not None]
    close = sum(abs(ssim - FORK) <= INVISIBLE["ssim"] for ssim in ssims)
    noise = close if find_environment_changes(claim, record) else 0
    verdict, better = compare_figure(name, now, then, then, noise)
    return PartVerdict(name=name, verdict=verdict, text=text, better=better)


def _verify_share(claim: ClaimConfig, record: Record, measured: ClaimConfig) -> PartVerdict | None:
    """Compares the computed share.

    Where the images differ, one more computed step per image is noise: a change close to a cache's threshold may fall
    on either side of it.
    """
    name, then, now = "computed_share", claim.computed_share, measured.computed_share
    if then is None:
        return None
    if now is None:
        return report_missing(name, ClaimedFigure(value=then), record)
    noise = INVISIBLE[name] if find_environment_changes(claim, record) else 0.0
    if not has_same_images(claim, measured):
        noise = max(INVISIBLE[name], now / max(_mean_computed_steps(record), 1))
    verdict, better = compare_figure(name, now, then, then, noise)
    missing = record.engaged.cache and record.engaged.cache.flops_missing
    if missing and verdict == NOT_REPRODUCED:
        text = f"{now:.5g} of the steps, claimed {then:.5g}; not comparable: FLOPs were not counted ({missing})"
        return PartVerdict(name=name, verdict=None, text=text)
    text = format_figure(now, ClaimedFigure(value=then))
    return PartVerdict(name=name, verdict=verdict, text=text, better=better)


def _mean_computed_steps(record: Record) -> float:
    return sum(step.computed for sample in record.samples for step in sample.steps) / len(record.samples)


def _verify_speed(claim: ClaimConfig, record: Record) -> list[PartVerdict]:
    timing = record.timing
    figures = {
        "seconds": (claim.seconds, timing.median if timing else None),
        "speedup": (claim.speedup, timing.speedup if timing else None),
    }
    other_hardware = record.environment.device_name != claim.device_name
    parts = []
    for name, (figure, now) in figures.items():
        if figure is None:
            continue
        if now is None:
            parts.append(report_missing(name, figure, record))
        elif other_hardware:
            text = f"{format_figure(now, figure)}; not comparable: different hardware"
            parts.append(PartVerdict(name=name, verdict=None, text=text))
        else:
            parts.append(_verify_time(name, claim, record, now))
    return parts


def _verify_time(name: str, claim: ClaimConfig, record: Record, now: float) -> PartVerdict:
    """Compares seconds or a speed-up on the same hardware."""
    figure: ClaimedFigure = getattr(claim, name)
    tolerance = compute_time_tolerance(name, claim, record)
    text = f"{format_figure(now, figure)}, spread {tolerance.noise:.0%}{_mention_cap(tolerance, f'{TIME_CAP:.0%}')}"
    text += f", {SINGLE}" if is_single_timing(claim) else ""
    if name == "speedup" and now <= 1 < figure.value:
        return PartVerdict(name=name, verdict=NOT_REPRODUCED, text=f"{text}, no speed-up")
    # The speed-up is divided by one plus the noise: subtracting a share would let any speed-up fall below 1.
    noise = (
        tolerance.low * tolerance.noise / (1 + tolerance.noise) if name == "speedup" else tolerance.noise * figure.value
    )
    verdict, better = compare_figure(name, now, tolerance.low, tolerance.high, noise)
    return PartVerdict(name=name, verdict=verdict, text=text, better=better)


def _mention_cap(tolerance: Tolerance, cap: str) -> str:
    return f", the claim's own interval and noise floors count for at most {cap}" if tolerance.capped else ""
