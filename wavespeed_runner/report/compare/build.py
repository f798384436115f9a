"""Puts runs side by side: which belong together, which settings differ, and what each figure says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError, make_printable
from ...metrics.statistics import Interval
from ...metrics.timing import format_bytes
from ..collect import collect
from ..page.texts import METRICS
from ..rows import Row, Sweep
from .verdicts import SAME_QUALITY, Compared, compare_mean, compare_ratio, pair, read_quality

NOT_COMPARED = (
    "outputs",
    "claim",
    "dry_run",
    "rerun",
    "prompts",
    "prompt",
    "hydra",
    "limits",
    "chosen_as",
    "calibrated_for",
)
"""Keys of a config that are no setting of the images, or that another line tells."""
NUMBERS = 40
"""Characters of a list from which it is no setting that somebody chose, but what a calibration filled in."""
LONGEST = 60
"""Characters of a setting's value."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """Runs of several sides that belong together."""

    label: str
    """Empty where each side is one run."""
    rows: list[Row | None]
    """One of each side; None where a side has none."""
    figures: list[tuple[str, list[Compared]]]
    """Name -> that of each side."""
    settings: list[tuple[str, list[str]]]
    """Key -> its value in each side, where they are not the same."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What `compare` prints and draws."""

    names: list[str]
    matches: list[Match]
    left_out: list[tuple[str, list[str]]]
    """Side -> labels of its jobs that the first side does not have."""


def compare(folders: Sequence[Path]) -> Comparison:
    """Collects the runs below each folder and compares those that belong together with the first side's.

    Args:
        folders: of runs or sweeps, at least two. Single runs belong together; jobs of sweeps, where the same was typed.

    Raises:
        ConfigError: a folder has no completed run, or nothing of the first side is in another.
    """
    sweeps = [collect(folder) for folder in folders]
    sides = [[row for row in sweep.rows if row.status == "completed" and row.record] for sweep in sweeps]
    for folder, rows in zip(folders, sides, strict=True):
        if not rows:
            raise ConfigError(f"{folder}: no run below it is complete, so there is nothing to compare")
    names = _name_sides(folders)
    if all(len(rows) == 1 for rows in sides):
        together: list[tuple[str, list[Row | None]]] = [("", [rows[0] for rows in sides])]
        return Comparison(names=names, matches=[_match(*one) for one in together], left_out=[])
    by_typed = [{_typed(sweep, row): row for row in rows} for sweep, rows in zip(sweeps, sides, strict=True)]
    together = [
        (row.label, [side.get(typed) for side in by_typed])
        for typed, row in by_typed[0].items()
        if any(typed in side for side in by_typed[1:])
    ]
    if not together:
        raise ConfigError(
            f"{folders[0]}: none of its {len(sides[0])} jobs has the values of a job of another side; compare single "
            "jobs (FOLDER/N), or sweeps over the same keys"
        )
    known = by_typed[0].keys()
    left_out = [
        (name, [row.label for typed, row in side.items() if typed not in known])
        for name, side in zip(names, by_typed, strict=True)
    ]
    return Comparison(
        names=names, matches=[_match(*one) for one in together], left_out=[pair for pair in left_out if pair[1]]
    )


def _typed(sweep: Sweep, row: Row) -> tuple[tuple[str, str], ...]:
    """What tells a job from the others of its sweep, in any order of the keys."""
    return tuple(sorted((key, value) for key in sweep.axes if (value := row.axes.get(key, ""))))


def _name_sides(folders: Sequence[Path]) -> list[str]:
    """`A`, `B`, ... with the folder, as it was typed."""
    return [make_printable(f"{chr(ord('A') + number)} {folder}") for number, folder in enumerate(folders)]


def _match(label: str, rows: list[Row | None]) -> Match:
    figures = [
        ("time per image", _compare_times(rows)),
        ("speedup", _compare_speedups(rows)),
        *((f"{name}, mean", _compare_quality(rows, metric, digits)) for metric, (name, digits) in METRICS.items()),
        ("forks", [Compared(text=f"{row.forks.count} of {row.forks.of}" if row and row.forks else "") for row in rows]),
        ("computed", [Compared(text=_share(row.computed_share if row else None)) for row in rows]),
        ("peak memory", [Compared(text=_bytes(row.peak_memory_bytes if row else None)) for row in rows]),
    ]
    known = [(name, line) for name, line in figures if any(one.text for one in line)]
    return Match(label=label, rows=rows, figures=known, settings=_find_differences(rows))


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


def _find_differences(rows: list[Row | None]) -> list[tuple[str, list[str]]]:
    """Settings, prompts, hardware and versions that are not the same in all sides."""
    described = [_describe(row) for row in rows if row is not None]
    keys = list(dict.fromkeys(key for one in described for key in one))
    places = [place for place, row in enumerate(rows) if row is not None]
    found = []
    for key in keys:
        values = [one.get(key, "") for one in described]
        if len(set(values)) > 1:
            shown = dict(zip(places, values, strict=True))
            found.append((key, [_shorten(shown.get(place, "")) for place in range(len(rows))]))
    return found


def _describe(row: Row) -> dict[str, str]:
    assert row.record
    record = row.record
    given = [(key, value) for key, value in _flatten(record.config) if not _is_left_out(key, value)]
    settings = {key: str(value) for key, value in given}
    prompts = list(dict.fromkeys(sample.prompt for sample in record.samples))
    images = f"{len(record.samples)} of {len(prompts)} prompts: {'; '.join(prompts)}"
    environment = record.environment
    versions = {name: version for name, version in environment.versions.items() if version != "absent"}
    return {
        "hardware": f"{environment.device_name} ({environment.threads} threads)"
        if environment.device == "cpu"
        else environment.device_name,
        **settings,
        "images": images,
        "platform": environment.platform,
        **versions,
        "commit": environment.commit or "",
    }


def _is_left_out(key: str, value: Any) -> bool:
    filled_in = isinstance(value, list) and len(str(value)) > NUMBERS
    return value is None or filled_in or any(part in NOT_COMPARED for part in key.split("."))


def _flatten(node: Any, key: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, dict) or not node:
        return [(key, node)]
    return [pair for name, value in node.items() for pair in _flatten(value, f"{key}.{name}" if key else str(name))]


def _shorten(text: str) -> str:
    text = make_printable(" ".join(text.split()))
    return text if len(text) <= LONGEST else text[: LONGEST - 1].rstrip() + "…"
