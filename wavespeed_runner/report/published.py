"""Times that others have published: a table of them, and those of the same model and setting beside one's own sweep.

They were measured elsewhere, so they are listed and drawn as bands, and never take part in the Pareto front. A band is
a published speedup applied to the run's own reference: seconds of another machine say nothing on this one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from statistics import median
from typing import Any

import yaml

from ..config.lossy import is_option_on
from ..records.record import Record
from ..records.reference import reference_steps

SETTING = ("width", "height", "num_frames", "steps")
"""What of a run must be as a source states it."""
NAMES = {"quant": "quantization", "parallel": "several GPUs", "framework": "other frameworks"}
"""What is on -> what a band is called by, where that is not the config group's name."""


@dataclass(frozen=True, kw_only=True)
class PublishedRow:
    """One published time."""

    repos: tuple[str, ...]
    """Hub ids of the weights."""
    by: str
    source: str
    date: str = ""
    """Of publication; empty where the source names none. A source in a repository names its commit."""
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    steps: int | None = None
    hardware: str
    method: str
    uses: tuple[str, ...]
    """What is on beside the plain pipeline, by config group."""
    seconds: float | None = None
    """Of an image or a video."""
    seconds_per_step: float | None = None
    speedup: float | None = None
    """As published, else the ratio to the first row of its group where that is a baseline."""
    is_ratio: bool = False
    """The speedup is that ratio."""
    quality: str = ""
    """In the source's words."""


@dataclass(frozen=True, kw_only=True)
class Band:
    """The published speedups of one kind of method, as times on the machine of the run."""

    name: str
    """`cache 1.55 to 1.91x`, with the sign for times."""
    low: float
    """Seconds: the run's own reference divided by the largest speedup."""
    high: float


@lru_cache
def read_published() -> tuple[PublishedRow, ...]:
    """All published rows, in the order of their file."""
    groups = yaml.safe_load((files(__package__) / "published.yaml").read_text(encoding="utf-8"))
    return tuple(row for group in groups for row in _read_group(group))


def _read_group(group: dict[str, Any]) -> list[PublishedRow]:
    rows = group.pop("rows")
    first = rows[0]
    base = (first.get("seconds") or first.get("seconds_per_step")) if not first["uses"] else None
    found = []
    for row in rows:
        own = {
            **group,
            **row,
            "repos": tuple(group["repos"]),
            "uses": tuple(row["uses"]),
            "date": str(group.get("date", "")),
        }
        if base and "speedup" not in row:
            own |= {"speedup": base / (row.get("seconds") or row["seconds_per_step"]), "is_ratio": True}
        found.append(PublishedRow(**own))
    return found


def find_published(records: Sequence[Record]) -> list[PublishedRow]:
    """The published rows of the same model and setting as some of the records, the steps those of their references."""
    settings = []
    for record in records:
        config = record.config
        setting = {key: config.get(key) for key in SETTING} | {"steps": reference_steps(record)}
        settings.append((config["model"].get("repo"), setting))
    return [row for row in read_published() if any(_fits(row, repo, setting) for repo, setting in settings)]


def explain_published(records: Sequence[Record], found: Sequence[PublishedRow]) -> str:
    """How many rows there are beside a sweep, or why there are none, in one sentence."""
    repos = sorted({str(record.config["model"].get("repo")) for record in records})
    of_model = sum(any(repo in row.repos for repo in repos) for row in read_published())
    named = ", ".join(repos) or "no completed job"
    if found:
        inits = {record.config["model"].get("init") for record in records} - {None}
        which = "of some jobs" if "pretrained" in inits else "here"
        random = ", ".join(sorted(map(str, inits - {"pretrained"})))
        other = f"; the weights {which} are none of theirs: init={random}" if random else ""
        rows = "1 published row" if len(found) == 1 else f"{len(found)} published rows"
        return f"{rows} of {named} at this size and number of steps{other}"
    others = f"; {of_model} at other settings are in docs/published.md" if of_model else ""
    return f"no published row of {named} at this size and number of steps{others}"


def _fits(row: PublishedRow, repo: Any, setting: dict[str, Any]) -> bool:
    """True if a row is of these weights, and of this setting as far as its source states one: the steps at least."""
    stated = {key: value for key in SETTING if (value := getattr(row, key)) is not None}
    return repo in row.repos and "steps" in stated and all(setting[key] == value for key, value in stated.items())


def list_groups_on(records: Sequence[Record]) -> frozenset[str]:
    """The config groups that are on in some record, of those that published rows use."""
    groups = {group for row in read_published() for group in row.uses}
    return frozenset(group for group in groups if any(is_option_on(record.config.get(group)) for record in records))


def list_bands(rows: Sequence[PublishedRow], references: Sequence[float], groups: Collection[str]) -> list[Band]:
    """A band for each kind of method, the fastest first; none without a reference that was timed.

    Args:
        rows: published ones. Baselines and rows without a speedup make no band.
        references: the run's own, in any unit of time; of several the median.
        groups: that are on in the sweep: there are no bands of what it does not use.
    """
    if not references:
        return []
    reference = median(references)
    kinds: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        if row.uses and row.speedup and set(row.uses) <= set(groups):
            kinds.setdefault(row.uses, []).append(row.speedup)
    bands = [
        Band(name=_name_band(uses, speedups), low=reference / max(speedups), high=reference / min(speedups))
        for uses, speedups in kinds.items()
    ]
    return sorted(bands, key=lambda band: (band.low, band.high))


def _name_band(uses: Sequence[str], speedups: Sequence[float]) -> str:
    low, high = f"{min(speedups):.2f}", f"{max(speedups):.2f}"
    names = " + ".join(NAMES.get(name, name) for name in uses)
    return f"{names} {low if low == high else f'{low} to {high}'}\N{MULTIPLICATION SIGN}"
