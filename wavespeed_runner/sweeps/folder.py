"""A sweep's folder: which jobs it has, what has become of each, and who is at it.

    sweep.json    written whole, once at the start
    N/            job N as a single run leaves it; `lost.json` where its process ended without a final record
    .lock         held by the process that runs the sweep; N/.lock by the one that runs the job

Everything is read from files, at any time: what a killed process knew is gone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.environment import digest_software
from ..errors import ConfigError, RunError
from ..process.folder_lock import LOCK, lock_folder, wait_for_lock
from ..records.file import FILE, read_record
from ..records.record import Record
from ..storage.atomic import write_text
from .status import Outcome, as_outcome

if TYPE_CHECKING:
    from .jobs import Job

SWEEP, LOST = "sweep.json", "lost.json"
SCHEMA_VERSION = 1
"""Of `sweep.json`."""
WRITTEN = (SWEEP, "multirun.yaml", "slurm.json")
"""Files of the sweep itself, which only the process that holds its lock writes."""
LEFT = (FILE, "config.yaml", LOST, "overview.png", "trace.csv", "trace.png")
LEFT_FOLDERS = ("images", "videos", "reference", "difference")
"""What a run leaves in its folder. Its log stays, and the next run's is added to it."""


@dataclass(frozen=True, kw_only=True)
class SweepFolder:
    path: Path
    callbacks: Any = None
    """Hydra's, of the process that runs the sweep."""

    def job(self, number: int) -> Path:
        """The folder of a job."""
        return self.path / str(number)

    def description(self) -> dict[str, Any]:
        """What `sweep.json` says."""
        found = json.loads((self.path / SWEEP).read_text(encoding="utf-8"))
        assert isinstance(found, dict)
        return found

    def outcome(self, number: int) -> Outcome:
        folder = self.job(number)
        record, lost = _read_record(folder), _read(folder / LOST)
        if lost is not None:
            identity = record.identity if record else None
            return Outcome(status="lost", identity=identity, reason=str(lost.get("reason", "")))
        if record is None:
            return Outcome(status="missing")
        return as_outcome(record)

    def is_done(self, job: Job) -> bool:
        """Whether a job is there, completed, and the same as is wanted now."""
        return job.plan is not None and self.outcome_of(job).status == "completed"

    def outcome_of(self, job: Job) -> Outcome:
        """As `outcome`; of a record of other settings, which an earlier sweep has left there, as if it were not."""
        found = self.outcome(job.number)
        wanted = job.plan.identity if job.plan else None
        stale = found.status != "lost" and found.identity is not None and found.identity != wanted
        return Outcome(status="missing") if stale else found

    def is_final(self, job: Job) -> bool:
        """Whether the job's process has said how it ended."""
        return self.outcome_of(job).status in ("completed", "failed", "interrupted", "lost")

    def mark_lost(self, number: int, reason: str) -> None:
        """Notes that a job's process ended without a final record. On a full disk nothing is noted."""
        try:
            write_text(self.job(number) / LOST, json.dumps({"reason": reason}) + "\n")
        except RunError:
            return

    def clear(self, number: int) -> None:
        """Takes away what an earlier attempt at a job has left, whole files and parts of files."""
        folder = self.job(number)
        # The record first: a kill in between must not leave one that tells of images that are gone.
        for file in [*(folder / name for name in LEFT), *folder.glob(".*.*")]:
            if file.is_file():
                file.unlink(missing_ok=True)
        for name in LEFT_FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)

    @contextmanager
    def working_on(self, number: int) -> Iterator[None]:
        """Waits until no other process works on the job, and keeps others waiting: one that has outlived its killed
        sweep may still be at it."""
        folder = self.job(number)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "a") as lock:
            wait_for_lock(lock.fileno(), f"job {number}")
            yield


def describe(
    *, command: list[str], config_dir: str | None, axes: list[str], jobs: list[Job], cwd: str = ""
) -> dict[str, Any]:
    """What `sweep.json` says of a sweep."""
    listed = [
        {
            "number": job.number,
            "overrides": job.overrides,
            "identity": job.plan.identity if job.plan else None,
            "asked": job.plan.asked if job.plan else None,
            "skipped": job.skipped,
        }
        for job in jobs
    ]
    said = "\n".join(one["identity"] or " ".join(one["overrides"]) for one in listed)  # type: ignore[arg-type,misc]
    return {
        "schema_version": SCHEMA_VERSION,
        "identity": sha256(said.encode()).hexdigest(),
        "command": command,
        "software": digest_software(),
        "cwd": cwd or os.getcwd(),
        "config_dir": config_dir,
        "axes": axes,
        "jobs": listed,
    }


@contextmanager
def opened(
    given: Path | None, usual: Path, sweeps: Path, about: dict[str, Any], *, anew: bool
) -> Iterator[SweepFolder]:
    """The folder in which the sweep `about` goes on, or begins. While it is open no other process gets it.

    Args:
        given: the folder that the user chose; None: the newest below `sweeps` that holds the same sweep and that
            nobody is at, else `usual`, which is made.
        anew: not to go on in one of `sweeps`.

    Raises:
        RunError: another process is at the given folder, or it cannot be written.
    """
    _sweep_out(sweeps)
    if given is not None:
        found, lock = given, _given(given)
    else:
        free = _free([] if anew else holding(sweeps, about["identity"]))
        found, lock = free or _made(usual)
    try:
        write_text(found / SWEEP, json.dumps(about, indent=1) + "\n")
        for part in (part for name in WRITTEN for part in found.glob(f".{name}.*")):  # of a writer that was killed
            part.unlink(missing_ok=True)
        yield SweepFolder(path=found)
    finally:
        os.close(lock)


def holding(sweeps: Path, identity: str) -> Iterator[Path]:
    """The folders that hold this sweep, the one that was begun last first."""
    for file in sorted(sweeps.glob(f"*/*/{SWEEP}"), reverse=True):
        if (_read(file) or {}).get("identity") == identity:
            yield file.parent


def _given(folder: Path) -> int:
    """The lock of the folder that the user chose."""
    said = f"hydra.sweep.dir={folder}"
    if folder.is_dir() and not (folder / SWEEP).exists():
        others = [file.name for file in folder.iterdir() if not file.name.startswith((LOCK, f".{SWEEP}."))]
        if others:
            raise ConfigError(
                f"{said}: holds other files than a sweep's ({min(others)}); give a new or an empty folder"
            )
    lock = lock_folder(folder)
    if lock is None:
        raise RunError(f"{said}: another process runs a sweep there; wait, or choose another folder")
    return lock


def _free(folders: Iterable[Path]) -> tuple[Path, int] | None:
    """The first that nobody is at and that we may write, and its lock."""
    for folder in folders:
        with suppress(RunError):  # somebody else's, or an archive
            if (lock := lock_folder(folder)) is not None:
                return folder, lock
    return None


def _sweep_out(sweeps: Path) -> None:
    """Takes away folders whose maker was killed before it could say what for."""
    for folder in sweeps.glob("*/*"):
        if (folder / SWEEP).exists() or not (folder / LOCK).exists():
            continue
        free = _free([folder])
        if free is None:
            continue
        _, lock = free
        if all(file.name.startswith((LOCK, f".{SWEEP}.")) for file in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _made(usual: Path) -> tuple[Path, int]:
    """A folder that nobody else has: two sweeps may begin in the same microsecond."""
    for folder in (usual, usual.with_name(f"{usual.name}-{os.getpid()}")):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"{folder}: cannot be made: {error.strerror}; choose another with outputs=DIR") from error
        while (lock := lock_folder(folder)) is None:  # one that sweeps out holds it for a moment
            time.sleep(0.01)
        return folder, lock
    raise RunError(f"{usual}: is there already; choose another with hydra.sweep.dir=DIR")


def _read_record(folder: Path) -> Record | None:
    """The record of a job; None where there is none, or a damaged one: then the job runs again."""
    try:
        return read_record(folder / FILE)
    except ConfigError:
        return None


def _read(file: Path) -> dict[str, Any] | None:
    """A JSON file of ours; None where there is none, or one that somebody has cut."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
