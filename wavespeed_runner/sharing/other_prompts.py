"""Judges a claim on prompts or seeds that are not its own: `met`, `not met`, or `not settled`.

Other prompts give other images, so nothing can be reproduced. A figure is met where its 95 % interval over the new
prompts is wholly on the good side of what is claimed (the worse end of the claimed interval, widened by what counts as
noise), not met where it is wholly on the bad side, and not settled in between: more prompts settle it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

from ..config.claim import ClaimConfig, ClaimedFigure
from ..metrics.confidence import Values, find_mean_interval
from ..metrics.values import list_metrics
from ..records.record import Record
from ..records.sample import SampleRecord
from .claim import (
    METRIC_RANGES,
    QUALITY_METRICS,
    build_claim,
    find_contradictions,
    find_environment_changes,
    hash_prompts,
    improvement_sign,
    is_single_timing,
)
from .figures import get_bounds, rounding_error
from .judged import find_allowed
from .parts import CLAIM, IMAGES, REFERENCE, PartVerdict, format_figure, report_missing
from .tolerance import INVISIBLE, compute_quality_tolerance, compute_time_tolerance
from .verdict import SINGLE, verify_reference

MET, NOT_SETTLED, NOT_MET = "met", "not settled", "not met"
VERDICTS = (MET, NOT_SETTLED, NOT_MET)
"""From best to worst."""


def has_other_images(claim: ClaimConfig, record: Record, *, other_seed: bool) -> bool:
    """Whether a run has other prompts than the claim, or was asked for another seed."""
    return other_seed or claim.prompts_sha256 != hash_prompts(record)


def judge_claim(claim: ClaimConfig, record: Record) -> list[PartVerdict]:
    """The verdict on each figure of a claim, of a completed run with other prompts or seeds."""
    measured, parts = build_claim(record), []
    if problems := find_contradictions(claim):
        parts.append(PartVerdict(name=CLAIM, verdict=NOT_MET, text=f"contradicts itself: {'; '.join(problems)}"))
    prompts = len({sample.prompt for sample in record.samples})
    text = f"{len(record.samples)} of {prompts} prompts, claimed on {len(claim.pixels_sha256)} of {claim.prompts}"
    parts.append(PartVerdict(name=IMAGES, verdict=None, text=text))
    if other := verify_reference(claim, record):
        parts.append(PartVerdict(name=REFERENCE, verdict=NOT_MET, text=other.text))
    parts += [_judge_quality(metric, claim, record) for metric in QUALITY_METRICS if getattr(claim, metric) is not None]
    parts += [_judge_judge(name, figure, record) for name, figure in claim.metrics.items()]
    parts += [part for part in (_judge_share(claim, record, measured), _show_forks(claim, measured)) if part]
    times = (name for name in ("seconds", "speedup") if getattr(claim, name) is not None)
    return [*parts, *(_judge_time(name, claim, record, measured) for name in times)]


def combine_judgements(parts: Sequence[PartVerdict]) -> str:
    """The worst verdict of all parts; `not settled` where nothing could be judged."""
    return max((part.verdict for part in parts if part.verdict), key=VERDICTS.index, default=NOT_SETTLED)


def format_judgement(claim: ClaimConfig, record: Record, parts: Sequence[PartVerdict]) -> str:
    """Returns a line such as `not settled (ssim) on 16 prompts that are not the claim's; ...`."""
    verdict = combine_judgements(parts)
    changes = find_environment_changes(claim, record)
    clauses = [
        head_judgement(claim, record, parts),
        "more prompts settle it" if verdict == NOT_SETTLED else "",
        "the claim contradicts itself" if any(part.name == CLAIM for part in parts) else "",
        f"what differs besides: {', '.join(changes)}" if changes and verdict != MET else "",
    ]
    return "; ".join(filter(None, clauses))


def head_judgement(claim: ClaimConfig, record: Record, parts: Sequence[PartVerdict]) -> str:
    """`not settled (ssim) on 16 other prompts`, or `on other seeds`: the verdict, what decides it, and on what."""
    verdict, prompts = combine_judgements(parts), len({sample.prompt for sample in record.samples})
    names = [part.name for part in parts if part.verdict == verdict and part.name not in (CLAIM, REFERENCE)]
    which = f" ({', '.join(names)})" if verdict != MET and names else ""
    what = "other seeds" if claim.prompts_sha256 == hash_prompts(record) else f"{prompts} other prompts"
    return f"{verdict}{which} on {what}"


def _judge_quality(metric: str, claim: ClaimConfig, record: Record) -> PartVerdict:
    figure: ClaimedFigure = getattr(claim, metric)
    if record.quality is None:
        return _report_missing(metric, figure, record)
    tolerance = compute_quality_tolerance(metric, claim, record)
    values = _group(record, lambda sample: getattr(sample.quality, metric) if sample.quality else None)
    if not values:  # PSNR where every image is identical to its reference
        return PartVerdict(name=metric, verdict=MET, text="identical to the reference", better=True)
    return _judge(metric, figure, values, (tolerance.low, tolerance.high), tolerance.noise)


def _judge_judge(name: str, figure: ClaimedFigure, record: Record) -> PartVerdict:
    """The verdict on what a judge of the config group `metrics` says."""
    label = f"metrics.{name}"
    if name not in (record.config.get("metrics") or {}) or name not in list_metrics():
        return PartVerdict(name=label, verdict=None, text=f"claimed {figure.value:.5g}; not asked for here")
    values = _group(record, lambda sample: (sample.metrics or {}).get(name))
    if not values:
        return _report_missing(label, figure, record)
    low, high, noise = find_allowed(figure)
    return _judge(name, figure, values, (low, high), noise, label=label)


def _judge_share(claim: ClaimConfig, record: Record, measured: ClaimConfig) -> PartVerdict | None:
    """The computed share; one more computed step per image counts as noise, as for other images of the same prompts."""
    name, then, now = "computed_share", claim.computed_share, measured.computed_share
    if then is None:
        return None
    figure = ClaimedFigure(value=then)
    if now is None:
        return _report_missing(name, figure, record)
    steps = _group(record, lambda sample: float(sum(step.computed for step in sample.steps)))
    mean = sum(sum(one) for one in steps.values()) / len(record.samples)
    if not mean:
        return _judge(name, figure, {"": [now], " ": [now]}, (then, then), INVISIBLE[name])
    values = {prompt: [now * count / mean for count in one] for prompt, one in steps.items()}
    return _judge(name, figure, values, (then, then), max(INVISIBLE[name], now / mean))


def _show_forks(claim: ClaimConfig, measured: ClaimConfig) -> PartVerdict | None:
    if claim.forks is None or measured.forks is None:
        return None
    text = f"{measured.forks} of {len(measured.pixels_sha256)}, claimed {claim.forks} of {len(claim.pixels_sha256)}"
    return PartVerdict(name="forks", verdict=None, text=f"{text}; not judged: other images fork elsewhere")


def _judge_time(name: str, claim: ClaimConfig, record: Record, measured: ClaimConfig) -> PartVerdict:
    figure: ClaimedFigure = getattr(claim, name)
    now: ClaimedFigure | None = getattr(measured, name)
    if now is None:
        return _report_missing(name, figure, record)
    if record.environment.device_name != claim.device_name:
        text = f"{format_figure(now.value, figure)}; not comparable: different hardware"
        return PartVerdict(name=name, verdict=None, text=text)
    tolerance, interval = compute_time_tolerance(name, claim, record), get_bounds(now)
    is_speedup = name == "speedup"
    limit = tolerance.low / (1 + tolerance.noise) if is_speedup else tolerance.high + tolerance.noise * figure.value
    verdict = _settle(interval, limit, sign=improvement_sign(name))
    verdict = NOT_MET if is_speedup and now.value <= 1 < figure.value else verdict
    text = _describe(now.value, interval, figure, limit, sign=improvement_sign(name))
    return PartVerdict(name=name, verdict=verdict, text=f"{text}, {SINGLE}" if is_single_timing(claim) else text)


def _judge(
    name: str, figure: ClaimedFigure, values: Values, allowed: tuple[float, float], noise: float, *, label: str = ""
) -> PartVerdict:
    """The verdict on a mean.

    Args:
        name: of the figure; says which direction is better.
        figure: as claimed.
        values: as measured.
        allowed: the part of the claimed interval that counts.
        noise: by which its worse end is widened.
        label: what the part is called; empty: the name.
    """
    sign, (least, most) = improvement_sign(name), METRIC_RANGES.get(name, (-inf, inf))
    low, high = find_mean_interval(values)
    # A t interval goes beyond what a metric can be, and says as little for one prompt.
    interval = (low, high) if low == -inf else (max(low, least), min(high, most))
    flat = [value for one in values.values() for value in one]
    mean, limit = sum(flat) / len(flat), allowed[0] - noise if sign > 0 else allowed[1] + noise
    text = _describe(mean, interval, figure, limit, sign=sign)
    return PartVerdict(name=label or name, verdict=_settle(interval, limit, sign=sign), text=text)


def _settle(interval: tuple[float, float], limit: float, *, sign: int) -> str:
    """Whether an interval is on the good side of a limit, on the bad one, or on both. NaN is not settled."""
    worse, better = interval if sign > 0 else (-interval[1], -interval[0])
    slack = rounding_error(limit)
    if worse >= sign * limit - slack:
        return MET
    return NOT_MET if better < sign * limit - slack else NOT_SETTLED


def _describe(now: float, interval: tuple[float, float], figure: ClaimedFigure, limit: float, *, sign: int) -> str:
    """`0.971 (95 %: 0.962 to 0.979), claimed 0.98 (0.97 to 0.99): at least 0.969 is needed`."""
    known = -inf < interval[0] and interval[1] < inf
    around = f"95 %: {interval[0]:.5g} to {interval[1]:.5g}" if known else "one prompt says nothing of others"
    claimed = format_figure(now, figure).partition(", ")[2]
    return f"{now:.5g} ({around}), {claimed}: {'at least' if sign > 0 else 'at most'} {limit:.5g} is needed"


def _report_missing(name: str, figure: ClaimedFigure, record: Record) -> PartVerdict:
    return PartVerdict(name=name, verdict=NOT_MET, text=report_missing(name, figure, record).text)


def _group(record: Record, read: Callable[[SampleRecord], float | None]) -> dict[str, list[float]]:
    """Prompt -> the values of its images, as far as they have one."""
    values: dict[str, list[float]] = {}
    for sample in record.samples:
        if (value := read(sample)) is not None:
            values.setdefault(sample.prompt, []).append(value)
    return values
