"""What a report shows: a row for each job, and the sweep that they belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..records.record import Record
from ..records.reference import name_steps
from ..records.summary import Summary
from .published import PublishedRow


@dataclass(frozen=True, kw_only=True)
class Row(Summary):
    """One job of a sweep: what its record says, and how it compares with the other jobs."""

    job: str
    """The name of its folder, relative to the sweep's."""
    folder: Path
    status: str
    """completed | failed | interrupted | running | lost | skipped | missing"""
    reason: str
    """Why it failed or was skipped, on one line; empty otherwise."""
    axes: dict[str, str]
    """Swept key -> value as typed, in the sweep's order."""
    label: str
    """Short and unique, for plots: made of the axes that vary."""
    record: Record | None
    front: bool = False
    """On the Pareto front of seconds (see `ranking.time_factors`) against SSIM. The reference takes part, so that a row
    on the front is faster than that."""
    beaten_by_fewer_steps: bool | None = None
    """A rival is at least as good in no more time, by interpolation between rivals of one sampler and the reference;
    None without rivals."""
    best_rival: str = ""
    """The best rival in no more time: `unipc 6 steps, shift 1.65`, or `6 to 8 steps` where it is interpolated. Empty
    where even the fastest rival takes longer."""
    judged_same_run: bool = False
    """That comparison uses times relative to references, each timed in the same run; else it is a guess."""
    config_yaml: str
    """An experiment file that runs this job again."""


def name_rival(row: Row) -> str | None:
    """`14 steps`, `unipc 6 steps, shift 1.65`; None for what is no rival."""
    return name_steps(row.solver, row.record.config["steps"]) if row.rival and row.record else None


def naming_axes(row: Row) -> dict[str, str]:
    """The axes that may name a job: without the sampler's where `name_rival` has named it."""
    is_named = row.rival and row.solver
    return {key: value for key, value in row.axes.items() if not (is_named and key.partition(".")[0] == "sampler")}


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that a report shows."""

    title: str
    folder: Path
    command: str
    axes: list[str]
    rows: list[Row]
    environment: dict[str, Any]
    finished: bool
    """Every job of the sweep has come to its end: none is missing, running or interrupted."""
    not_followed: str = ""
    """Why experiments of the user's are named and not written out; empty where they are."""
    published: list[PublishedRow] = field(default_factory=list)
    """What others have published of the same model and setting, where it is asked for."""
    published_groups: frozenset[str] = frozenset()
    """Config groups that are on in some job: bands are of these alone."""
    published_note: str = ""
    """Says how much that is, also where it is nothing; empty where it was not asked for."""
