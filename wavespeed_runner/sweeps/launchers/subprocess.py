"""`hydra/launcher=isolated`: a fresh process for each job, one at a time, so that no job's time depends on another's.

A job that is killed, or that crashes outside of Python, takes nobody with it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..folder import SweepFolder
from ..jobs import Job
from ..worker import PARENT

SAID = "console.log"
"""What a job's process printed, in its folder."""
PATIENCE_S = 60.0
"""How long an interrupted job may take to write its record."""


def launch(
    sweep: SweepFolder, jobs: list[Job], options: dict[str, Any], on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number, reason)` as each ends; why some left no final record."""
    lost = {}
    for job in jobs:
        said = sweep.job(job.number) / SAID
        try:
            with sweep.working_on(job.number):
                if not sweep.is_done(job):
                    sweep.clear(job.number)
            status = _run(sweep, job.number, said)
            reason = _why(status, said)
        except OSError as error:
            reason = f"{error.filename or said}: {error.strerror}"
        if not sweep.is_final(job):
            sweep.mark_lost(job.number, reason)
            lost[job.number] = reason
        on_end(job.number, lost.get(job.number, ""))
    return lost


def _run(sweep: SweepFolder, number: int, said: Path) -> int:
    """Waits for the job's process; its exit status. Ctrl-C is passed on, and the job's record waited for."""
    said.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "wavespeed_runner.sweeps.worker", str(sweep.path), str(number)]
    with open(said, "wb") as file:
        # In a session of its own: a Ctrl-C of the terminal comes to it once, through us.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, PARENT: str(os.getpid())},
        )  # fmt: skip
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(PATIENCE_S)
            finally:
                process.kill()
            raise


def _why(status: int, said: Path) -> str:
    """Why a process left no record, as far as one can tell from outside."""
    if status == -signal.SIGKILL:
        return "its process was killed (SIGKILL): by hand, or by the system for want of memory"
    if status < 0:
        return f"its process died of {signal.Signals(-status).name}; see {said}"
    lines = said.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.removeprefix("error: ") for line in reversed(lines) if line.strip()), "it said nothing")
    return f"its process ended with status {status}: {last}"
