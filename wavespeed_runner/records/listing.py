"""Finds the jobs below a folder and how each ended, from `sweep.json`, `record.json` and `lost.json` alone."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, format_error, make_printable
from ..inputs import limits
from ..inputs.documents import read_json
from ..inputs.files import is_within
from ..process.folder_lock import is_locked
from .config_dir import explain_not_followed
from .file import FILE, Allowance, read_record
from .names import describe_failure
from .record import Record

RUNNING_SECONDS = 900
"""Where no lock tells, a record without an end that is younger than this belongs to a run that goes on."""
NO_RUNS = frozenset({"store", "images", "videos", "reference", "difference", ".hydra"})
"""Folders without runs, some of them with very many files."""

LINK = "a link leads out of the folder, and is not followed; give the folder that it leads to"


@dataclass(frozen=True, kw_only=True)
class ListedJob:
    """One job, as its folder has it."""

    job: str
    """Name of the folder, relative to where the search began."""
    folder: Path
    status: str
    """completed | failed | interrupted | running | lost | skipped | missing"""
    reason: str
    overrides: list[str]
    record: Record | None


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What a folder holds."""

    jobs: list[ListedJob]
    axes: list[str] = field(default_factory=list)
    """Swept keys, as `sweep.json` lists them; empty without one."""
    command: list[str] = field(default_factory=list)
    """As typed, where `sweep.json` has it."""
    config_dir: Path | None = None
    """Where the experiments are that its overrides name."""
    not_followed: str = ""
    """Why that is not the folder of configs which `sweep.json` names."""


def list_jobs(folder: Path, config_dir: Path | None = None, allowance: Allowance | None = None) -> Listing:
    """Lists every job below a folder; of a sweep also those that have not begun.

    Args:
        folder: of a sweep or a run, or any above them.
        config_dir: the `--config-dir` of the runs; None takes it from `sweep.json`, where it may be followed.
        allowance: what all records may have together; None: those of this call.

    Raises:
        ConfigError: there is no such folder, or no job below it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one of outputs/sweeps, outputs/runs, or any above them")
    allowance = allowance or Allowance()
    places = list(_find_places(folder))
    jobs: list[ListedJob] = []
    for place, sweep in places:
        jobs += (
            [_list_job(folder, place, None, allowance)]
            if sweep is None
            else _list_sweep(folder, place, sweep, allowance)
        )
    if not jobs:
        raise ConfigError(
            f"{folder}: no record.json and no sweep.json in it or below it; give a folder that a run or a sweep left"
        )
    sweeps = [sweep for _, sweep in places if sweep is not None]
    only = sweeps[0] if len(sweeps) == len(places) == 1 else {}
    not_followed = ""
    if config_dir is None:
        config_dir, not_followed = _find_config_dir([(place, sweep) for place, sweep in places if sweep is not None])
    return Listing(
        jobs=jobs,
        axes=[str(key) for key in only.get("axes", [])],
        command=[str(word) for word in only.get("command", [])],
        config_dir=config_dir,
        not_followed=not_followed if any("experiment=" in word for job in jobs for word in job.overrides) else "",
    )


def _find_config_dir(sweeps: list[tuple[Path, dict[str, Any]]]) -> tuple[Path | None, str]:
    """The folder of configs that all sweeps name, or None and why it is not followed."""
    named = {sweep.get("config_dir") for _, sweep in sweeps}
    if len(named) != 1 or not (only := named.pop()):
        return None, ""
    reason = explain_not_followed(only, sweeps[0][0])
    return (None, reason) if reason else (Path(only), "")


def _find_places(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Yields folders of sweeps with their `sweep.json`, and of single runs with None; numbers in their order."""
    with os.scandir(folder) as entries:
        # A link may lead upwards, or to somebody else's folder.
        below = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    sweep = _read_sweep(folder) if "sweep.json" in below else None
    # A run that was killed early has left its config, and no record yet.
    if sweep is not None or FILE in below or ("config.yaml" in below and ".hydra" in below):
        yield folder, sweep
        return
    for name in sorted((name for name, is_dir in below.items() if is_dir and name not in NO_RUNS), key=_sort_key):
        try:
            yield from _find_places(folder / name)
        except PermissionError:  # a folder of another user
            continue


def _sort_key(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def _read_sweep(place: Path) -> dict[str, Any] | None:
    """Reads `sweep.json`; None where there is none, or a damaged one."""
    try:
        if not is_within(place / "sweep.json", [place]):
            return None
        sweep = read_json(place / "sweep.json")
        for job in sweep["jobs"]:
            int(job["number"])
            list(job["overrides"])
        _refuse_large(sweep)
        lists = [sweep.get("axes", []), sweep.get("command", [])]
        config_dir = sweep.get("config_dir")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    is_valid = all(isinstance(value, list) for value in lists) and (config_dir is None or isinstance(config_dir, str))
    return sweep if is_valid else None


def _refuse_large(sweep: dict[str, Any]) -> None:
    """Raises `ValueError` for more jobs, overrides or swept keys than a report can take in a reasonable time."""
    lists = [sweep.get("command", []), *(job["overrides"] for job in sweep["jobs"])]
    if len(sweep["jobs"]) > limits.MAX_SWEEP_JOBS or len(sweep.get("axes", [])) > limits.MAX_AXES:
        raise ValueError("more jobs or swept keys than are read")
    if max(map(len, lists)) > limits.MAX_OVERRIDES or sum(map(len, lists)) > limits.MAX_SWEEP_WORDS:
        raise ValueError("more overrides than are read")
    lengths = [sum(len(str(word)) for word in words) for words in lists]
    if max(lengths) > limits.MAX_CONFIG_BYTES or sum(lengths) > limits.MAX_SWEEP_CHARACTERS:
        raise ValueError("more characters of overrides than are read")


def _list_sweep(root: Path, place: Path, sweep: dict[str, Any], allowance: Allowance) -> Iterator[ListedJob]:
    for job in sweep["jobs"]:
        folder = place / str(job["number"])
        if job.get("skipped"):
            yield ListedJob(
                job=_job_name(root, folder),
                folder=folder,
                status="skipped",
                reason=make_printable(str(job["skipped"])),
                overrides=[str(override) for override in job["overrides"]],
                record=None,
            )
        else:
            yield _list_job(root, folder, job, allowance)


def _job_name(root: Path, folder: Path) -> str:
    return folder.name if folder == root else folder.relative_to(root).as_posix()


def _list_job(root: Path, folder: Path, planned: dict[str, Any] | None, allowance: Allowance) -> ListedJob:
    """planned: what `sweep.json` says of the job."""
    is_below = _is_below(root, folder)
    status, reason, record = _read_state(folder, planned, allowance) if is_below else ("lost", LINK, None)
    overrides = planned["overrides"] if planned else record.overrides if record else []
    return ListedJob(
        job=_job_name(root, folder),
        folder=folder,
        status=status,
        reason=make_printable(reason),
        overrides=[str(override) for override in overrides],
        record=record,
    )


def _is_below(root: Path, folder: Path) -> bool:
    """False where a link of the folder leads out of the one that is listed: to a run that its sender never had."""
    try:
        return all(is_within(folder / name, [root]) for name in (FILE, "lost.json"))
    except (OSError, ValueError):  # links in a circle
        return False


def _read_state(folder: Path, planned: dict[str, Any] | None, allowance: Allowance) -> tuple[str, str, Record | None]:
    """Status, reason and record of a job's folder."""
    path, lost = folder / FILE, _read_lost(folder)
    if not path.exists():
        if lost is not None:
            return "lost", lost, None
        if is_locked(folder):
            return "running", "it has just begun", None
        return ("missing", "not run yet", None) if planned else ("lost", "it left no record: killed as it began", None)
    try:
        record = read_record(path, allowance)
    except ConfigError as error:
        return "lost", f"{path.name}: {str(error).partition(': ')[2]}", None
    identity = (planned or {}).get("identity")
    if identity and record.identity not in (None, identity):
        return "missing", "not run yet: the record in its folder is of another configuration", None
    if lost is not None:
        return "lost", lost, record
    if record.status != "interrupted":
        return record.status, describe_failure(record), record
    return _describe_interrupted(folder, record)


def _describe_interrupted(folder: Path, record: Record) -> tuple[str, str, Record]:
    """Tells an interrupted run from one that goes on: a record says `interrupted` from the start."""
    if record.error is not None:
        return "interrupted", "interrupted; the same command continues it", record
    written = (folder / FILE).stat().st_mtime
    locked = is_locked(folder)
    is_running = time.time() - written < RUNNING_SECONDS if locked is None else locked
    reason = f"no end yet, last written {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(written))}"
    return (
        ("running", reason, record)
        if is_running
        else ("interrupted", f"{reason}; the same command continues it", record)
    )


def _read_lost(folder: Path) -> str | None:
    """Why the controller of the sweep says that the job's process died; None where it says nothing."""
    try:
        return str(read_json(folder / "lost.json")["reason"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"its process died; lost.json cannot be read: {format_error(error)}"
