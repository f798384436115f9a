"""The figures of a job as text, for the table and the plots of the page."""

from __future__ import annotations

from ...metrics.timing import format_bytes
from ...records.quality_summary import Quality
from ..judges import judge_texts
from ..rows import Row, Sweep

METRICS = {"ssim": ("SSIM", 4), "mae_similarity": ("MAE similarity", 4), "psnr": ("PSNR in dB", 1)}
"""Each metric's displayed name and number of digits; for all of them, higher is better."""
NOTHING = "\N{EN DASH}"
"""Shown where a value is unknown."""


def texts(row: Row, time_unit: tuple[float, str]) -> dict[str, str]:
    """Formats the figures of a job.

    Args:
        row: the job.
        time_unit: as `unit` returns it.

    Returns:
        Texts by name: `time`, `time_interval`, `speedup`, `speedup_interval`, `share`, `peak`, `weights`, `verdict`,
        and of each metric its mean (`ssim`), `ssim_interval`, `ssim_median`, `ssim_p10`, `ssim_worst`, `ssim_worst_at`,
        and `ssim_floor` where a noise floor was measured; `forks`; and the same of each judge, `metrics.lpips`.
    """
    share = NOTHING if row.computed_share is None else f"{100 * row.computed_share:.0f} %"
    text = {"time": NOTHING, "time_interval": "", "speedup": NOTHING, "speedup_interval": ""}
    text |= {"share": share, "verdict": verdict(row)}
    text["forks"] = NOTHING if row.forks is None else f"{row.forks.count} of {row.forks.of}"
    text["peak"] = NOTHING if row.peak_memory_bytes is None else format_bytes(row.peak_memory_bytes)
    text["weights"] = "" if row.weight_bytes is None else f"weights {format_bytes(row.weight_bytes)}"
    if row.seconds is not None:
        value, low, high = (_duration(s, time_unit) for s in (row.seconds.value, row.seconds.low, row.seconds.high))
        text |= {"time": f"{value} {time_unit[1]}", "time_interval": _range(low, high)}
    if row.speedup is not None:
        text["speedup"] = f"{'' if row.same_run else '~'}{row.speedup:.2f}×"  # noqa: RUF001
    if row.speedup_interval is not None:
        text["speedup_interval"] = _range(*(f"{x:.2f}" for x in (row.speedup_interval.low, row.speedup_interval.high)))
    for metric, (_, digits) in METRICS.items():
        text |= _quality_texts(metric, row.quality.get(metric), digits)
    return text | judge_texts(row)


def _quality_texts(metric: str, quality: Quality | None, digits: int) -> dict[str, str]:
    if quality is None:
        return {metric: NOTHING}
    mean = quality.mean
    floor = {} if quality.noise_floor is None else {f"{metric}_floor": f"{quality.noise_floor:.{digits}f}"}
    return {
        metric: f"{mean.value:.{digits}f}",
        f"{metric}_interval": _range(f"{mean.low:.{digits}f}", f"{mean.high:.{digits}f}"),
        f"{metric}_median": f"{quality.median:.{digits}f}",
        f"{metric}_p10": f"{quality.p10:.{digits}f}",
        f"{metric}_worst": f"{quality.worst:.{digits}f}",
        f"{metric}_worst_at": f"{' '.join(quality.worst_prompt.split())} (seed {quality.worst_seed})",
        **floor,
    }


def _range(low: str, high: str) -> str:
    """An interval as text; empty where both bounds are the same, as with a single image."""
    return "" if low == high else f"{low}\N{EN DASH}{high}"


def verdict(row: Row) -> str:
    """Says whether a job is better than fewer steps without a cache."""
    if row.rival:
        return "other sampler" if row.solver else "fewer steps"
    if row.beaten_by_fewer_steps is None:
        return NOTHING
    than = f" than {row.best_rival}" if row.best_rival else ""
    return f"{'' if row.judged_same_run else '~'}{'no better' if row.beaten_by_fewer_steps else 'better'}{than}"


def unit(sweep: Sweep) -> tuple[float, str]:
    """Returns factor and name of the unit for all times of a report: seconds, or milliseconds where all are short."""
    longest = max((row.seconds.value for row in sweep.rows if row.seconds is not None), default=0.0)
    return (1.0, "s") if longest >= 1 else (1000.0, "ms")


def _duration(seconds: float, time_unit: tuple[float, str]) -> str:
    digits = 0 if time_unit[1] == "ms" else 3 if seconds < 1 else 2
    return f"{seconds * time_unit[0]:.{digits}f}"


def format_time(seconds: float | None, time_unit: tuple[float, str]) -> str:
    """Formats a time with its unit; empty if it is unknown."""
    return "" if seconds is None else f"{_duration(seconds, time_unit)} {time_unit[1]}"


def reference_text(sweep: Sweep) -> str:
    """Formats the median time of the reference; empty without a comparison, or with several references."""
    times = sorted(row.reference_seconds for row in sweep.rows if row.reference_seconds and row.quality)
    several = len({row.compared_with for row in sweep.rows if row.compared_with}) > 1
    return format_time(times[len(times) // 2], unit(sweep)) if times and not several else ""
