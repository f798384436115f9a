"""Puts runs side by side: which belong together, which settings differ, and what each figure says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigError, make_printable
from ...records.file import Allowance
from ..collect import collect
from ..rows import Row, Sweep
from .figures import compare_figures
from .verdicts import Compared

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
"""Characters of a calibrated cache's value from which it is nothing that somebody chose, but was filled in."""
LONGEST, BEFORE = 60, 8
"""Characters of a setting's value, and those that are shown before the place where long values begin to differ."""


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
    allowance = Allowance()
    sweeps = [collect(folder, allowance=allowance) for folder in folders]
    sides = [[row for row in sweep.rows if row.status == "completed" and row.record] for sweep in sweeps]
    for folder, rows in zip(folders, sides, strict=True):
        if not rows:
            raise ConfigError(f"{folder}: no run below it is complete, so there is nothing to compare")
    names = _name_sides(folders)
    if all(len(rows) == 1 for rows in sides):
        together: list[tuple[str, list[Row | None]]] = [("", [rows[0] for rows in sides])]
        return Comparison(names=names, matches=[_match(*one) for one in together], left_out=[])
    by_typed = [_by_typed(sweep, rows) for sweep, rows in zip(sweeps, sides, strict=True)]
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
    shown = {id(row) for _, rows in together for row in rows}
    left_out = [
        (
            name,
            [
                f"{row.label} ({row.status})" if row.status != "completed" else row.label
                for row in sweep.rows
                if id(row) not in shown
            ],
        )
        for name, sweep in zip(names, sweeps, strict=True)
    ]
    return Comparison(
        names=names, matches=[_match(*one) for one in together], left_out=[pair for pair in left_out if pair[1]]
    )


def _name(row: Row) -> str:
    return row.label if row.status == "completed" else f"{row.label} ({row.status})"


def _by_typed(sweep: Sweep, rows: Sequence[Row]) -> dict[tuple[tuple[str, str], ...], Row]:
    """Jobs by what tells them from the others of their sweep, in any order of the keys; the same again is another."""
    found: dict[tuple[tuple[str, str], ...], Row] = {}
    for row in rows:
        typed = tuple(sorted((key, value) for key in sweep.axes if (value := row.axes.get(key, ""))))
        again = 1
        while (key := (*typed, ("", str(again)))) in found:
            again += 1
        found[key] = row
    return found


def _name_sides(folders: Sequence[Path]) -> list[str]:
    """`A`, `B`, ... with the folder, as it was typed."""
    return [make_printable(f"{chr(ord('A') + number)} {folder}") for number, folder in enumerate(folders)]


def _match(label: str, rows: list[Row | None]) -> Match:
    return Match(label=label, rows=rows, figures=compare_figures(rows), settings=_find_differences(rows))


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
            found.append((key, shorten_apart([shown.get(place, "") for place in range(len(rows))], LONGEST)))
    return found


def _describe(row: Row) -> dict[str, str]:
    assert row.record
    record = row.record
    calibrated = bool((record.config.get("cache") or {}).get("calibrated_for"))
    given = [
        (key, value)
        for key, value in _flatten(record.config)
        if not (_is_left_out(key, value) or (calibrated and key.startswith("cache.") and len(str(value)) > NUMBERS))
    ]
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
    return value is None or any(part in NOT_COMPARED for part in key.split("."))


def _flatten(node: Any, key: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, dict) or not node:
        return [(key, node)]
    return [pair for name, value in node.items() for pair in _flatten(value, f"{key}.{name}" if key else str(name))]


def shorten_apart(values: list[str], longest: int) -> list[str]:
    """The values with so many characters at most, from shortly before where they differ if that is further behind."""
    shown = [shorten(value, longest) for value in values]
    if len(set(shown)) == len(set(values)):
        return shown
    letters = zip(*filter(None, values), strict=False)
    common = next((place for place, each in enumerate(letters) if len(set(each)) > 1), 0)
    return [shorten(f"…{value[max(0, common - BEFORE) :]}", longest) if value else "" for value in values]


def shorten(text: str, longest: int) -> str:
    """The text in one line, of so many characters at most."""
    text = make_printable(" ".join(text.split()))
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"
