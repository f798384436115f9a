"""What a sweep found, read from its records alone: at any time, also while it runs or after it was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import printable
from .console import model_name, setting
from ..records.override_yaml import experiment_yaml
from .jobs import Found, Listing, listing
from .judging import judged
from ..records.labels import by_key, command, labels, telling, varying
from ..records.summary import Quality, measured
from ..metrics.statistics import Interval

ENDED = ("completed", "failed", "lost", "skipped")


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
    """Of denoising a picture: the median."""
    reference_seconds: float | None
    """Of a picture of the reference: the median."""
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


def collect(folder: Path) -> Sweep:
    """A sweep's folder, a single run's folder, or any folder with records below it; from files alone.

    Raises:
        ConfigError: no such folder, or nothing of ours below it.
    """
    found = listing(folder)
    typed = [by_key(job.overrides) for job in found.jobs]
    axes = found.axes or varying(typed)
    rows = [
        _row(job, {key: own.get(key, "") for key in axes}, found) for job, own in zip(found.jobs, typed, strict=True)
    ]
    names = labels(
        [row.axes for row in rows],
        [row.job for row in rows],
        rivals=[row.record["config"]["steps"] if row.rival and row.record else None for row in rows],
        settings=[_setting(row) for row in rows],
    )
    rows = judged([replace(row, label=label) for row, label in zip(rows, names, strict=True)])
    return Sweep(
        title=_title(rows, axes),
        folder=folder,
        command=command(found, typed, axes),
        axes=axes,
        rows=rows,
        environment=_environment(rows),
        finished=all(row.status in ENDED for row in rows),
    )


def _row(job: Found, axes: dict[str, str], found: Listing) -> Row:
    """A job before it is compared with others. Of a record that lacks what it must have, the row says so."""
    row = Row(
        job=job.job,
        folder=job.folder,
        status=job.status,
        reason=job.reason,
        axes=axes,
        label="",
        record=job.record,
        seconds=None,
        reference_seconds=None,
        speedup=None,
        same_run=False,
        computed_share=None,
        never_hit=False,
        quality={},
        compared_with="",
        rivals_with="",
        rival=False,
        front=False,
        beaten_by_fewer_steps=None,
        judged_same_run=False,
        config_yaml="",
    )
    try:
        config_yaml = (
            experiment_yaml({"overrides": job.overrides}, found.config_dir) if job.overrides or job.record else ""
        )
        row = replace(row, config_yaml=config_yaml)
        return replace(row, **measured(job.record)) if job.record and job.status == "completed" else row
    except Exception as error:  # whatever may be in the file
        reason = f"record.json is damaged: {type(error).__name__}: {error}"
        return replace(row, status="lost", reason=printable(reason), record=None)


def _setting(row: Row) -> str:
    """What to call a job that nothing was swept in."""
    try:
        return setting(row.record) if row.record else row.job
    except Exception:
        return row.job


def _title(rows: Sequence[Row], axes: Sequence[str]) -> str:
    """`demo: cache.residual_diff_threshold, cache.start`; of a single run its setting."""
    models = list(dict.fromkeys(_model(row.record) for row in rows if row.record))
    named = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    told = telling([row.axes for row in rows], [row.rival for row in rows]) or axes
    what = ", ".join(told) if told else _setting(rows[0]) if len(rows) == 1 else f"{len(rows)} jobs"
    return printable(": ".join(filter(None, [named, what])))


def _model(record: dict[str, Any]) -> str:
    try:
        return model_name(record["config"]["model"])
    except (KeyError, TypeError, AttributeError):
        return ""


def _environment(rows: Sequence[Row]) -> dict[str, Any]:
    """Of the first job that has one; where jobs differ, `differs` lists the values of each."""
    said = [own for row in rows if row.record and isinstance(own := row.record.get("environment"), dict)]
    known = [
        {key: value for key, value in own.items() if key != "differs"}
        for own in said
        if isinstance(own.get("versions"), dict)
    ]
    if not known:
        return {}
    differs = {}
    for key in known[0]:
        values = []
        for own in known:
            if own.get(key) not in values:
                values.append(own.get(key))
        if len(values) > 1:
            differs[key] = values
    return {**known[0], "differs": differs} if differs else dict(known[0])
