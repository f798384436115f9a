"""The figures of runs that belong together, side by side."""

from __future__ import annotations

from collections.abc import Callable

from ...metrics.statistics import Interval
from ...metrics.timing import format_bytes
from ..page.texts import METRICS
from ..rows import Row
from .verdicts import (
    SAME_JUDGED,
    SAME_QUALITY,
    Compared,
    compare_mean,
    compare_ratio,
    pair,
    read_judge,
    read_quality,
)


def compare_figures(rows: list[Row | None]) -> list[tuple[str, list[Compared]]]:
    """Name -> figure of each side, with its verdict against the first; without those that no side has."""
    figures = [
        ("time per image", _compare_times(rows)),
        ("speedup", _compare_speedups(rows)),
        *((f"{name}, mean", _compare_quality(rows, metric, digits)) for metric, (name, digits) in METRICS.items()),
        *((name, _compare_judge(rows, name)) for name in dict.fromkeys(n for row in rows if row for n in row.metrics)),
        ("forks", [Compared(text=f"{row.forks.count} of {row.forks.of}" if row and row.forks else "") for row in rows]),
        ("computed", [Compared(text=_share(row.computed_share if row else None)) for row in rows]),
        ("peak memory", [Compared(text=_bytes(row.peak_memory_bytes if row else None)) for row in rows]),
    ]
    return [(name, line) for name, line in figures if any(one.text for one in line)]


def _compare_times(rows: list[Row | None]) -> list[Compared]:
    longest = max((row.seconds.value for row in rows if row and row.seconds), default=0.0)
    factor, unit, digits = (1.0, "s", 2) if longest >= 1 else (1000.0, "ms", 0 if longest >= 0.1 else 1)

    def judge(first: Row, other: Row) -> str:
        ratio = pair(first, other, lambda sample: sample.seconds, ratio=True)
        return compare_ratio(first.seconds, other.seconds, ratio, less=True)

    return _compare(rows, lambda row: _interval(row.seconds, digits, factor, f" {unit}"), judge)


def _compare_speedups(rows: list[Row | None]) -> list[Compared]:
    """Each against a reference on its own machine: what a setting gains, whatever the hardware."""

    def tell(row: Row) -> str:
        if row.speedup is None:
            return ""
        text, interval = f"{'' if row.same_run else '~'}{row.speedup:.2f}x", row.speedup_interval
        return (
            f"{text} ({interval.low:.2f} to {interval.high:.2f})" if interval and interval.low < interval.high else text
        )

    def judge(first: Row, other: Row) -> str:
        return compare_ratio(first.speedup_interval, other.speedup_interval, None, less=False)

    return _compare(rows, tell, judge)


def _compare_quality(rows: list[Row | None], metric: str, digits: int) -> list[Compared]:
    def tell(row: Row) -> str:
        return _interval(row.quality[metric].mean, digits) if metric in row.quality else ""

    def judge(first: Row, other: Row) -> str:
        difference = pair(first, other, read_quality(metric), ratio=False)
        return compare_mean(first.quality.get(metric), other.quality.get(metric), difference, SAME_QUALITY[metric])

    return _compare(rows, tell, judge)


def _compare_judge(rows: list[Row | None], name: str) -> list[Compared]:
    def tell(row: Row) -> str:
        return _interval(row.metrics[name].mean, 4) if name in row.metrics else ""

    def judge(first: Row, other: Row) -> str:
        if name not in first.metrics:
            return ""
        same = SAME_JUDGED * abs(first.metrics[name].mean.value)
        difference = pair(first, other, read_judge(name), ratio=False)
        return compare_mean(first.metrics[name], other.metrics.get(name), difference, same)

    return _compare(rows, tell, judge)


def _compare(rows: list[Row | None], tell: Callable[[Row], str], judge: Callable[[Row, Row], str]) -> list[Compared]:
    """Each figure as text, with the verdict against the first side."""
    first = rows[0]
    compared = []
    for place, row in enumerate(rows):
        if row is None:
            compared.append(Compared(text=""))
            continue
        verdict = judge(first, row) if place and first is not None else ""
        compared.append(Compared(text=tell(row), verdict=verdict))
    return compared


def _interval(interval: Interval | None, digits: int, factor: float = 1.0, unit: str = "") -> str:
    if interval is None:
        return ""
    value, low, high = (f"{number * factor:.{digits}f}" for number in (interval.value, interval.low, interval.high))
    return f"{value}{unit}" if low == high else f"{value}{unit} ({low} to {high})"


def _share(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _bytes(count: int | None) -> str:
    return "" if count is None else format_bytes(count)
