"""What a sweep found, read from its records alone: at any time, also while it runs or after it was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import make_printable
from ..records.labels import by_key, command, labels, telling, varying
from ..records.listing import Found, Listing, listing
from ..records.names import model_name, setting
from ..records.override_yaml import experiment_yaml
from ..records.summary import measured
from .judging import judged
from .rows import Row, Sweep

ENDED = ("completed", "failed", "lost", "skipped")


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
        return replace(row, status="lost", reason=make_printable(reason), record=None)


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
    return make_printable(": ".join(filter(None, [named, what])))


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
