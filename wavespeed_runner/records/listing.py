"""Which jobs lie below a folder, and how each ended: from `sweep.json`, `record.json` and `lost.json` alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError, format_error, make_printable
from ..process.folder_lock import is_locked
from .file import FILE, read_record
from .names import describe_failure
from .record import Record

RUNNING_SECONDS = 900
"""A record without an end that was written to in this time is taken for a run that goes on, where no lock tells."""
OURS = frozenset({"store", "images", "videos", "reference", "difference", ".hydra"})
"""Folders with no runs in them, some of them with very many files."""


@dataclass(frozen=True, kw_only=True)
class Found:
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

    jobs: list[Found]
    axes: list[str] = field(default_factory=list)
    """As `sweep.json` lists them; empty without one."""
    command: list[str] = field(default_factory=list)
    """As typed, where `sweep.json` says it."""
    config_dir: Path | None = None


def listing(folder: Path) -> Listing:
    """Every job below a folder; of a sweep that has said what it wants, also those that have not begun.

    Raises:
        ConfigError: no such folder, or nothing of ours below it.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; give one of outputs/sweeps, outputs/runs, or any above them")
    places = list(_places(folder))
    jobs: list[Found] = []
    for place, told in places:
        jobs += [_found(folder, place, None)] if told is None else _of_sweep(folder, place, told)
    if not jobs:
        raise ConfigError(
            f"{folder}: no record.json and no sweep.json in it or below it; give a folder that a run or a sweep left"
        )
    sweeps = [told for _, told in places if told is not None]
    only = sweeps[0] if len(sweeps) == len(places) == 1 else {}
    config_dirs = {told.get("config_dir") for told in sweeps}
    config_dir = config_dirs.pop() if len(config_dirs) == 1 else None
    return Listing(
        jobs=jobs,
        axes=[str(key) for key in only.get("axes", [])],
        command=[str(word) for word in only.get("command", [])],
        config_dir=Path(config_dir) if config_dir else None,
    )


def _places(folder: Path) -> Iterator[tuple[Path, dict[str, Any] | None]]:
    """Folders of sweeps, with their own list of jobs, and of single runs, with None; numbers in their order."""
    with os.scandir(folder) as entries:
        # What a link leads to may lie above, or be somebody else's.
        below = {entry.name: entry.is_dir(follow_symlinks=False) for entry in entries}
    told = _told(folder) if "sweep.json" in below else None
    # A run that was killed early has left its config, and no record yet.
    if told is not None or "record.json" in below or ("config.yaml" in below and ".hydra" in below):
        yield folder, told
        return
    for name in sorted((name for name, is_dir in below.items() if is_dir and name not in OURS), key=_in_order):
        try:
            yield from _places(folder / name)
        except PermissionError:  # a folder of another user has nothing to tell
            continue


def _in_order(name: str) -> tuple[int, str]:
    return (int(name), "") if name.isdecimal() else (-1, name)


def _told(place: Path) -> dict[str, Any] | None:
    """A sweep's own list of its jobs; None where there is none that can be read."""
    try:
        told = json.loads((place / "sweep.json").read_text(encoding="utf-8"))
        for job in told["jobs"]:
            int(job["number"])
            list(job["overrides"])
        lists = [told.get("axes", []), told.get("command", [])]
        config_dir = told.get("config_dir")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None
    told_well = all(isinstance(one, list) for one in lists) and (config_dir is None or isinstance(config_dir, str))
    return told if told_well else None


def _of_sweep(root: Path, place: Path, told: dict[str, Any]) -> Iterator[Found]:
    for job in told["jobs"]:
        own = place / str(job["number"])
        if job.get("skipped"):
            yield Found(
                job=_name(root, own),
                folder=own,
                status="skipped",
                reason=make_printable(str(job["skipped"])),
                overrides=[str(override) for override in job["overrides"]],
                record=None,
            )
        else:
            yield _found(root, own, job)


def _name(root: Path, own: Path) -> str:
    return own.name if own == root else own.relative_to(root).as_posix()


def _found(root: Path, own: Path, wanted: dict[str, Any] | None) -> Found:
    """wanted: what `sweep.json` says of the job."""
    status, reason, record = _state(own, wanted)
    overrides = wanted["overrides"] if wanted else record.overrides if record else []
    return Found(
        job=_name(root, own),
        folder=own,
        status=status,
        reason=make_printable(reason),
        overrides=[str(override) for override in overrides],
        record=record,
    )


def _state(own: Path, wanted: dict[str, Any] | None) -> tuple[str, str, Record | None]:
    """Status, reason and record of a job's folder."""
    path, lost = own / FILE, _lost(own)
    if not path.exists():
        if lost is not None:
            return "lost", lost, None
        if is_locked(own):
            return "running", "it has just begun", None
        return ("missing", "not run yet", None) if wanted else ("lost", "it left no record: killed as it began", None)
    try:
        record = read_record(path)
    except ConfigError as error:
        return "lost", f"{path.name}: {str(error).partition(': ')[2]}", None
    identity = (wanted or {}).get("identity")
    if identity and record.identity not in (None, identity):
        return "missing", "not run yet: the record in its folder is of another configuration", None
    if lost is not None:
        return "lost", lost, record
    if record.status == "completed":
        return "completed", "", record
    if record.status == "failed":
        return "failed", describe_failure(record), record
    if record.error is not None:
        return "interrupted", "interrupted; the same command goes on", record
    # From the start on a record says "interrupted", so that a kill leaves a true one.
    written = path.stat().st_mtime
    held = is_locked(own)
    running = time.time() - written < RUNNING_SECONDS if held is None else held
    said = f"no end yet, last written {time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(written))}"
    return ("running", said, record) if running else ("interrupted", f"{said}; the same command goes on", record)


def _lost(own: Path) -> str | None:
    """Why the controller says that the job's process died; None where it says nothing."""
    try:
        return str(json.loads((own / "lost.json").read_text(encoding="utf-8"))["reason"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        return f"its process died; lost.json cannot be read: {format_error(error)}"
