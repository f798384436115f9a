"""A sweep's folder: which jobs it has, how each ended, and which process works on it.

    sweep.json    written whole, once at the start
    N/            the folder of job N, as of a single run; `lost.json` if its process ended without a final record
    .lock         held by the process that runs the sweep; N/.lock by the one that runs the job

All state is in files: what a killed process knew is gone.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.environment import digest_software
from ..errors import ConfigError, RunError
from ..inputs import documents
from ..inputs.limits import MAX_SWEEP_CHARACTERS
from ..process.folder_lock import LOCK, wait_for_lock
from ..records.file import FILE, read_record
from ..records.record import Record
from ..storage.atomic import write_text
from .status import Outcome, as_outcome

if TYPE_CHECKING:
    from .jobs import Job

SWEEP, LOST = "sweep.json", "lost.json"
SCHEMA_VERSION = 1
"""Version of `sweep.json`."""
WRITTEN = (SWEEP, "multirun.yaml", "slurm.json")
"""Files of the sweep itself; only the process that holds its lock writes them."""
LEFT = (FILE, "config.yaml", LOST, "overview.png", "trace.csv", "trace.png")
LEFT_FOLDERS = ("images", "videos", "reference", "difference")
"""What a run leaves in its folder and a new attempt removes. The log stays, and the next attempt appends to it."""


@dataclass(frozen=True, kw_only=True)
class SweepFolder:
    """The folder of one sweep."""

    path: Path
    callbacks: Any = None
    """Hydra's callbacks, in the process that runs the sweep."""

    def job(self, number: int) -> Path:
        """The folder of a job."""
        return self.path / str(number)

    def description(self) -> dict[str, Any]:
        """The content of `sweep.json`."""
        data = documents.read_json(self.path / SWEEP)
        assert isinstance(data, dict)
        return data

    def outcome(self, number: int) -> Outcome:
        """How a job ended, as far as its files tell."""
        folder = self.job(number)
        record, lost = _read_record(folder), read_json(folder / LOST)
        if lost is not None:
            identity = record.identity if record else None
            return Outcome(status="lost", identity=identity, reason=str(lost.get("reason", "")))
        if record is None:
            return Outcome(status="missing")
        return as_outcome(record)

    def is_done(self, job: Job) -> bool:
        """Whether the job completed, with the settings that are wanted now."""
        return job.plan is not None and self.outcome_of(job).status == "completed"

    def outcome_of(self, job: Job) -> Outcome:
        """As `outcome`, but ignores a record of other settings, which an earlier sweep left in the folder."""
        outcome = self.outcome(job.number)
        wanted = job.plan.identity if job.plan else None
        stale = outcome.status != "lost" and outcome.identity is not None and outcome.identity != wanted
        return Outcome(status="missing") if stale else outcome

    def is_final(self, job: Job) -> bool:
        """Whether it is noted how the job ended."""
        return self.outcome_of(job).status in ("completed", "failed", "interrupted", "lost")

    def mark_lost(self, number: int, reason: str) -> None:
        """Notes that a job's process ended without a final record; on a full disk, does nothing."""
        try:
            write_text(self.job(number) / LOST, json.dumps({"reason": reason}) + "\n")
        except RunError:
            return

    def clear(self, number: int) -> None:
        """Removes what an earlier attempt at a job left, including partly written files."""
        folder = self.job(number)
        # The record first: a kill in between must not leave a record of images that are gone.
        for file in [*(folder / name for name in LEFT), *folder.glob(".*.*")]:
            if file.is_file():
                file.unlink(missing_ok=True)
        for name in LEFT_FOLDERS:
            shutil.rmtree(folder / name, ignore_errors=True)

    @contextmanager
    def working_on(self, number: int) -> Iterator[None]:
        """Waits until no other process works on the job, then keeps others waiting.

        A job's process may outlive its killed sweep.
        """
        folder = self.job(number)
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / LOCK, "a") as lock:
            wait_for_lock(lock.fileno(), f"job {number}")
            yield


def refuse_long_overrides(jobs: list[Job]) -> None:
    """Refuses a sweep whose `sweep.json` nobody could read again: many jobs, each with the prompts of a recipe.

    Raises:
        ConfigError: says how long it would be.
    """
    characters = sum(len(override) for job in jobs for override in job.overrides)
    if characters > MAX_SWEEP_CHARACTERS:
        raise ConfigError(
            f"{len(jobs)} jobs have {characters} characters of overrides, and at most {MAX_SWEEP_CHARACTERS} are read "
            "of a sweep; give prompts in a file, prompts=file prompts.path=FILE, or sweep over fewer values"
        )


def describe(
    *, command: list[str], config_dir: str | None, axes: list[str], jobs: list[Job], cwd: str = ""
) -> dict[str, Any]:
    """The content of `sweep.json`.

    Args:
        command: the command line, without the program.
        config_dir: absolute; None without one.
        axes: the keys in which the jobs differ.
        jobs: all of them.
        cwd: where the command was typed; empty: here.
    """
    listed = [
        {
            "number": job.number,
            "overrides": job.overrides,
            "identity": job.plan.identity if job.plan else None,
            "asked": job.plan.asked if job.plan else None,
            "skipped": job.skipped,
            **({"decided": [asdict(change) for change in job.decided]} if job.decided else {}),
        }
        for job in jobs
    ]
    text = "\n".join(job.plan.identity if job.plan else " ".join(job.overrides) for job in jobs)
    return {
        "schema_version": SCHEMA_VERSION,
        "identity": sha256(text.encode()).hexdigest(),
        "command": command,
        "software": digest_software(),
        "cwd": cwd or os.getcwd(),
        "config_dir": config_dir,
        "axes": axes,
        "jobs": listed,
    }


def _read_record(folder: Path) -> Record | None:
    """The record of a job; None where there is none, or a damaged one: then the job runs again."""
    try:
        return read_record(folder / FILE)
    except ConfigError:
        return None


def read_json(file: Path) -> dict[str, Any] | None:
    """The content of a JSON file of ours; None where there is none, or a damaged one."""
    try:
        data = documents.read_json(file)
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None
