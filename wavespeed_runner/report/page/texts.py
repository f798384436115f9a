"""The figures of a job as people read them, for the table and the plots of the page."""

from __future__ import annotations

from ...records.summary import Quality
from ..rows import Row, Sweep

METRICS = {"ssim": ("SSIM", 4), "mae_similarity": ("MAE similarity", 4), "psnr": ("PSNR in dB", 1)}
"""Metric -> its name for people, digits. More is better for all of them."""
NOTHING = "\N{EN DASH}"


def texts(row: Row, time_unit: tuple[float, str]) -> dict[str, str]:
    """The figures of a job as people read them."""
    share = NOTHING if row.computed_share is None else f"{100 * row.computed_share:.0f} %"
    text = {"time": NOTHING, "time_interval": "", "speedup": NOTHING, "share": share, "verdict": verdict(row)}
    if row.seconds is not None:
        value, low, high = (_duration(s, time_unit) for s in (row.seconds.value, row.seconds.low, row.seconds.high))
        text |= {"time": f"{value} {time_unit[1]}", "time_interval": _range(low, high)}
    if row.speedup is not None:
        text["speedup"] = f"{'' if row.same_run else '~'}{row.speedup:.2f}×"  # noqa: RUF001
    for metric, (_, digits) in METRICS.items():
        text |= _quality_texts(metric, row.quality.get(metric), digits)
    return text


def _quality_texts(metric: str, found: Quality | None, digits: int) -> dict[str, str]:
    if found is None:
        return {metric: NOTHING}
    mean = found.mean
    floor = {} if found.noise_floor is None else {f"{metric}_floor": f"{found.noise_floor:.{digits}f}"}
    return {
        metric: f"{mean.value:.{digits}f}",
        f"{metric}_interval": _range(f"{mean.low:.{digits}f}", f"{mean.high:.{digits}f}"),
        f"{metric}_worst": f"{found.worst:.{digits}f}",
        f"{metric}_worst_at": f"{' '.join(found.worst_prompt.split())} (seed {found.worst_seed})",
        **floor,
    }


def _range(low: str, high: str) -> str:
    return f"{low}\N{EN DASH}{high}"


def verdict(row: Row) -> str:
    """Against "fewer steps without cache"."""
    if row.rival:
        return "is fewer steps"
    if row.beaten_by_fewer_steps is None:
        return NOTHING
    return f"{'' if row.judged_same_run else '~'}{'no better' if row.beaten_by_fewer_steps else 'better'}"


def unit(sweep: Sweep) -> tuple[float, str]:
    """Factor and name of the unit in which all times of a report are written."""
    longest = max((row.seconds.value for row in sweep.rows if row.seconds is not None), default=0.0)
    return (1.0, "s") if longest >= 1 else (1000.0, "ms")


def _duration(seconds: float, time_unit: tuple[float, str]) -> str:
    digits = 0 if time_unit[1] == "ms" else 3 if seconds < 1 else 2
    return f"{seconds * time_unit[0]:.{digits}f}"


def format_time(seconds: float | None, time_unit: tuple[float, str]) -> str:
    """With its unit; empty where it is not known."""
    return "" if seconds is None else f"{_duration(seconds, time_unit)} {time_unit[1]}"


def reference_text(sweep: Sweep) -> str:
    """The middle of the times of the reference; empty where nothing was compared, or with more than one."""
    found = sorted(row.reference_seconds for row in sweep.rows if row.reference_seconds and row.quality)
    several = len({row.compared_with for row in sweep.rows if row.compared_with}) > 1
    return format_time(found[len(found) // 2], unit(sweep)) if found and not several else ""
