"""What a report shows: a row a job, and the sweep that they are of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..metrics.statistics import Interval
from ..records.summary import Quality


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job of a sweep."""

    job: str
    """The name of its folder, relative to the sweep's."""
    folder: Path
    status: str
    """completed | failed | interrupted | running | lost | skipped | missing"""
    reason: str
    """Why it failed or was skipped, one line; empty otherwise."""
    axes: dict[str, str]
    """Swept key -> value as typed, in the sweep's order."""
    label: str
    """Short and unique, for plots: made of the axes that vary."""
    record: dict[str, Any] | None
    seconds: Interval | None
    """Of denoising an image: the median."""
    reference_seconds: float | None
    """Of an image of the reference: the median."""
    speedup: float | None
    """Against the reference."""
    same_run: bool
    """The reference was timed with the candidate, in the same minutes."""
    computed_share: float | None
    """The FLOP share of the blocks where it is known, else the share of the steps; None: neither tells, see
    `measured.computed_share`."""
    never_hit: bool
    """A cache was on and nothing was taken from it: all was computed."""
    same_work: bool = False
    """That, and nothing else is lossy or left out: it has computed what the reference computes, and a difference in
    time is noise."""
    quality: dict[str, Quality]
    """mae, mae_similarity, ssim, psnr: those that were measured."""
    compared_with: str
    """The same for rows that may be judged by one another: the same model, prompts, reference and hardware. Empty
    where there is no comparison with a reference."""
    rivals_with: str
    """The same for rows that have the same rivals: with the same batch size and memory options as well."""
    rival: bool
    """Nothing lossy is on, and fewer steps than its reference: "fewer steps without cache"."""
    front: bool
    """On the Pareto front of seconds (see `judging.paces`) against SSIM, in which the reference takes part: faster than
    it, at least."""
    beaten_by_fewer_steps: bool | None
    """A rival is at least as good in no more time (by interpolation between rivals and the reference); None without
    rivals."""
    judged_same_run: bool
    """That goes by times relative to references, each timed in the same run; else it is a guess."""
    config_yaml: str
    """The exact experiment YAML that runs this point again."""


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
