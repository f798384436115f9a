"""What a sweep found, read from its records alone: at any time, also while it runs or after it was cut off."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import to_builtins

from ..config.error_messages import explain_config_error
from ..errors import make_printable
from ..records.file import Allowance
from ..records.labels import build_command, find_naming_keys, find_varying_keys, label_jobs, split_overrides
from ..records.listing import ListedJob, Listing, list_jobs
from ..records.names import model_name, setting_name
from ..records.override_yaml import experiment_yaml
from ..records.plausible import find_misshapen
from ..records.record import Record
from ..records.summary import NO_SUMMARY, summarize_record
from .published import explain_published, find_published, list_groups_on
from .ranking import rank_rows
from .rows import Row, Sweep, name_rival, naming_axes

ENDED = ("completed", "failed", "lost", "skipped")


def collect(folder: Path, config_dir: Path | None = None, allowance: Allowance | None = None) -> Sweep:
    """A sweep's folder, a single run's folder, or any folder with records below it; from files alone.

    Args:
        folder: to look into.
        config_dir: the `--config-dir` of the runs, where the command line gives it.
        allowance: as of `list_jobs`.

    Raises:
        ConfigError: no such folder, or nothing of ours below it.
    """
    listing = list_jobs(folder, config_dir, allowance)
    typed = [split_overrides(job.overrides) for job in listing.jobs]
    axes = listing.axes or find_varying_keys(typed)
    rows = [
        _row(job, {key: own.get(key, "") for key in axes}, listing)
        for job, own in zip(listing.jobs, typed, strict=True)
    ]
    names = label_jobs(
        [naming_axes(row) for row in rows],
        [row.job for row in rows],
        rivals=[name_rival(row) for row in rows],
        settings=[name_setting(row) for row in rows],
    )
    rows = rank_rows([replace(row, label=label) for row, label in zip(rows, names, strict=True)])
    return Sweep(
        title=_title(rows, axes),
        folder=folder,
        command=build_command(listing, typed, axes),
        axes=axes,
        rows=rows,
        environment=_environment(rows),
        finished=all(row.status in ENDED for row in rows),
        not_followed=listing.not_followed,
    )


def add_published(sweep: Sweep) -> Sweep:
    """The sweep with what others have published of the same model and setting, see `published`."""
    records = [row.record for row in sweep.rows if row.status == "completed" and row.record]
    found = find_published(records)
    note, groups = explain_published(records, found), list_groups_on(records)
    return replace(sweep, published=found, published_note=note, published_groups=groups)


def _row(job: ListedJob, axes: dict[str, str], listing: Listing) -> Row:
    """A job before it is compared with others. Where its config or overrides make no sense, the row says so."""
    record, status, reason, config_yaml, summary = job.record, job.status, job.reason, "", NO_SUMMARY
    try:
        if job.overrides or record:
            config_yaml = experiment_yaml([*job.overrides, *_name_drawn_seed(record)], listing.config_dir)
        if record and status == "completed":
            summary = summarize_record(record)
    except Exception as error:  # the config in a record is plain data, with anything in it
        told = (find_misshapen(record.config) if record else "") or explain_config_error(error)
        reason = make_printable(f"record.json is damaged: {told or f'{type(error).__name__}: {error}'}")
        record, status = None, "lost"
    return Row(
        job=job.job,
        folder=job.folder,
        status=status,
        reason=reason,
        axes=axes,
        label="",
        record=record,
        config_yaml=config_yaml,
        **vars(summary),
    )


def _name_drawn_seed(record: Record | None) -> list[str]:
    """The override that makes the same images where the run had drawn its seed; what was typed would draw another."""
    changes = record.plan.changes if record else []
    return [f"seed={int(change.value)}" for change in changes if change.key == "seed"]


def name_setting(row: Row) -> str:
    """What to call a job that nothing was swept in."""
    try:
        return setting_name(row.record) if row.record else row.job
    except Exception:
        return row.job


def _title(rows: Sequence[Row], axes: Sequence[str]) -> str:
    """`demo: cache.residual_diff_threshold, cache.start`; of a single run its setting."""
    models = list(dict.fromkeys(_model(row.record) for row in rows if row.record))
    named = ", ".join(models[:3]) + (f" and {len(models) - 3} more" if len(models) > 3 else "")
    told = find_naming_keys([row.axes for row in rows], [row.rival for row in rows]) or axes
    what = ", ".join(told) if told else name_setting(rows[0]) if len(rows) == 1 else f"{len(rows)} jobs"
    return make_printable(": ".join(filter(None, [named, what])))


def _model(record: Record) -> str:
    try:
        return model_name(record.config["model"])
    except (KeyError, TypeError, AttributeError):
        return ""


def _list_kinds(environment: dict[str, Any]) -> list[str]:
    """The kinds of device that computed: how many ranks there were is a setting, and one process names no ranks."""
    return sorted(set(environment.get("devices") or [environment["device_name"]]))


def _environment(rows: Sequence[Row]) -> dict[str, Any]:
    """The environment of the first job that has one; where jobs differ, `differs` has the values of each key."""
    known = [to_builtins(row.record.environment) for row in rows if row.record]
    if not known:
        return {}
    differs = {}
    for key in dict.fromkeys(key for environment in known for key in environment):
        values: list[Any] = []
        for environment in known:
            value = _list_kinds(environment) if key == "devices" else environment[key]
            if value not in values:
                values.append(value)
        if len(values) > 1:
            differs[key] = values
    return {**known[0], "differs": differs} if differs else known[0]
