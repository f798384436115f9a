"""The rows of the table in the console: label, reference, result."""

from __future__ import annotations

from collections.abc import Sequence

from ..metrics.forks import FORK
from ..metrics.timing import format_bytes, summarize_timings
from ..records.quality_summary import Quality, summarize_judges, summarize_quality
from ..records.record import MetricSummary, NumericsFloor, Record
from ..records.sample import Metrics

QUALITY = (("ssim", "SSIM", 4), ("mae_similarity", "MAE similarity", 4), ("psnr", "PSNR in dB", 1))
"""Metric, its name for people, digits."""
JUDGED_DIGITS = 4
"""Significant digits of a judge's values, whose unit is its own."""


def read_kind(record: Record) -> str:
    """What the run made: `image` or `video`."""
    return "video" if any(sample.frames is not None for sample in record.samples) else "image"


def time_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result."""
    timing = record.timing
    assert timing
    references = [s.reference_seconds for s in record.samples if s.reference_seconds is not None]
    reference = summarize_timings(timing.reference_raw or references)
    middle = reference["median"] if timing.reference_median is None else timing.reference_median
    spread = len(timing.raw) > 1
    longest = max(timing.median or 0, middle or 0)
    label = f"time per {read_kind(record)}, median ± MAD" if spread else f"time per {read_kind(record)}"
    own_time = _duration(timing.median, timing.mad if spread else None, longest)
    rows = [(label, _duration(middle, reference["mad"] if spread else None, longest), own_time)]
    if record.reference.kind == "run" and timing.speedup:
        guess = "~" if timing.same_run is False else ""
        rows.append(("speedup", "", f"{guess}{timing.speedup:.2f}×"))  # noqa: RUF001
    if timing.void is not None:
        rows.append(("timing", "", "void: compiled meanwhile"))
    if timing.compile_seconds is not None and timing.first_call is not None:
        times = [_duration(seconds, None, timing.first_call) for seconds in (timing.first_call, timing.compile_seconds)]
        rows.append(("first call / of it compiling", "", " / ".join(times)))
    return rows


def work_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result."""
    samples, evidence = record.samples, record.engaged.cache
    if evidence and evidence.modules is not None:  # diffusers' own strategies skip attention inside of steps
        work = f"{evidence.calls - evidence.hits} / {evidence.hits}"
        rows = [("attention calls computed / cached", f"{evidence.calls} / 0", work)]
    else:
        total = [len(sample.steps) for sample in samples]
        computed = [sum(step.computed for step in sample.steps) for sample in samples]
        cached = [t - c for t, c in zip(total, computed, strict=True)]
        reference = [len(s.steps) if s.reference_steps is None else s.reference_steps for s in samples]
        rows = [("steps computed / cached", f"{_span(reference)} / 0", f"{_span(computed)} / {_span(cached)}")]
        rows += _branch_rows(record)
    if evidence and evidence.flop_share is not None:
        blocks, denoiser = evidence.flop_share, evidence.denoiser_flop_share or 0
        shares = f"{100 * blocks:.0f} % / {100 * denoiser:.0f} %"
        rows.append(("FLOPs of blocks / denoiser", "100 % / 100 %", shares))
    return rows


def _branch_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result: a step counts as computed where one of its guidance branches was."""
    steps = [step.branches for sample in record.samples for step in sample.steps if step.branches]
    if all(len({branch.computed for branch in branches.values()}) == 1 for branches in steps):
        return []
    calls = [
        [b.computed for step in sample.steps for b in (step.branches.values() if step.branches else [step])]
        for sample in record.samples
    ]
    total, computed = [len(one) for one in calls], [sum(one) for one in calls]
    cached = [t - c for t, c in zip(total, computed, strict=True)]
    return [("calls in both guidance branches", f"{_span(total)} / 0", f"{_span(computed)} / {_span(cached)}")]


def memory_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result; none where the system does not tell."""
    figures = record.memory
    if figures is None or figures.peak_bytes is None or figures.weight_bytes is None:
        return []
    return [
        ("memory of weights / peak", "", f"{format_bytes(figures.weight_bytes)} / {format_bytes(figures.peak_bytes)}")
    ]


def quality_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result of each metric, with the noise floors below it."""
    rows: list[tuple[str, str, str]] = []
    quality = summarize_quality(record) if record.quality else {}
    for metric, label, digits in QUALITY:
        if record.quality is None:
            break
        summary = getattr(record.quality, metric)
        if summary.mean is None:  # PSNR where all images are identical: infinite
            rows.append((label, "", "identical"))
        elif len(record.samples) > 1:
            rows.append((f"{label}, mean (worst)", "", f"{summary.mean:.{digits}f} ({summary.worst:.{digits}f})"))
            rows += _interval_row(record, quality.get(metric), f".{digits}f")
            rows += _spread_rows(summary, digits)
        else:
            rows.append((label, "", f"{summary.mean:.{digits}f}"))
        if metric == "ssim" and record.quality.forks:
            rows.append((f"  forks: below {FORK:g}", "", f"{record.quality.forks} of {len(record.samples)}"))
        rows += [(f"  {name}", value, "") for name, _, value in floor_rows(record, (metric, label, digits))]
    return rows


def judge_rows(record: Record) -> list[tuple[str, str, str]]:
    """Label, reference, result of each judge of the config group `metrics`."""
    rows: list[tuple[str, str, str]] = []
    judged = summarize_judges(record) if record.metrics else {}
    for name, summary in (record.metrics or {}).items():
        if summary.mean is None or summary.worst is None:
            continue
        label = f"{name}{', less is better' * summary.less_is_better}"
        reference = "" if summary.reference_mean is None else f"{summary.reference_mean:.{JUDGED_DIGITS}g}"
        if len(record.samples) > 1:
            figures = f"{summary.mean:.{JUDGED_DIGITS}g} ({summary.worst:.{JUDGED_DIGITS}g})"
            rows.append((f"{label}, mean (worst)", reference, figures))
            rows += _interval_row(record, judged.get(name), f".{JUDGED_DIGITS}g")
        else:
            rows.append((label, reference, f"{summary.mean:.{JUDGED_DIGITS}g}"))
    return rows


def _interval_row(record: Record, quality: Quality | None, digits: str) -> list[tuple[str, str, str]]:
    """Label, reference, result: the 95 % interval of a mean, as in reports and claims, and what it is over."""
    if quality is None:
        return []
    prompts = len({sample.prompt for sample in record.samples})
    over = f"{prompts} prompts" if prompts > 1 else f"{len(record.samples)} seeds"
    return [(f"  95 % interval, {over}", "", f"{quality.mean.low:{digits}} to {quality.mean.high:{digits}}")]


def _spread_rows(summary: MetricSummary, digits: int) -> list[tuple[str, str, str]]:
    """Label, reference, result: what the images are like that the mean is of."""
    if not isinstance(summary.median, float) or not isinstance(summary.p10, float):
        return []
    return [("  median (10th percentile)", "", f"{summary.median:.{digits}f} ({summary.p10:.{digits}f})")]


def floor_rows(record: Record, *metrics: tuple[str, str, int]) -> list[tuple[str, str, str]]:
    """How close the reference comes to itself: again, and in another precision, as far as it was measured."""
    floor = record.noise_floor
    known: list[Metrics] = [f for f in (floor.repeat, floor.numerics) if f is not None] if floor else []
    how = " / ".join(f"in {one.what}" if isinstance(one, NumericsFloor) else "again" for one in known)
    rows = []
    for metric, label, digits in metrics if known else ():
        values = [getattr(one, metric) for one in known]
        rows.append((f"{label} {how}", "", " / ".join("identical" if v is None else f"{v:.{digits}f}" for v in values)))
    return rows


def _duration(seconds: float | None, mad: float | None, longest: float) -> str:
    """`704 ± 4 ms`: unit and digits follow from the longest time in the row; a dash where nothing was timed."""
    if seconds is None:
        return "-"
    factor, unit = (1, "s") if longest >= 1 else (1000, "ms")
    digits = max(0, 3 - len(str(int(longest * factor)))) + (unit == "s")
    around = f" ± {mad * factor:.{digits}f}" if mad is not None else ""
    return f"{seconds * factor:.{digits}f}{around} {unit}"


def _span(counts: Sequence[int]) -> str:
    """`17`, or `15-17` where images differ."""
    low, high = min(counts, default=0), max(counts, default=0)
    return str(low) if low == high else f"{low}-{high}"
