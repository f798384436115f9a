"""`hydra/launcher=isolated`: runs each job in a fresh process, one at a time, so that no job affects another's timing.

A job that is killed, or crashes outside Python, does not end the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...process.import_path import build_python_command
from ..folder import SweepFolder
from ..jobs import Job
from ..worker import PARENT, WORKER

CONSOLE_LOG = "console.log"
"""File in a job's folder: what its process printed."""
STOP_S = 60.0
"""Seconds that an interrupted job may take to write its record."""


def launch(
    sweep: SweepFolder, jobs: list[Job], options: dict[str, Any], on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number, reason)` as each ends; returns why some left no final record."""
    lost = {}
    for job in jobs:
        log = sweep.job(job.number) / CONSOLE_LOG
        try:
            with sweep.working_on(job.number):
                if not sweep.is_done(job):
                    sweep.clear(job.number)
            status = _run(sweep, job.number, log)
            reason = _explain_status(status, log)
        except OSError as error:
            reason = f"{error.filename or log}: {error.strerror}"
        if not sweep.is_final(job):
            sweep.mark_lost(job.number, reason)
            lost[job.number] = reason
        on_end(job.number, lost.get(job.number, ""))
    return lost


def _run(sweep: SweepFolder, number: int, log: Path) -> int:
    """Runs the job's process and returns its exit status. Passes Ctrl-C on and waits for the job's record."""
    log.parent.mkdir(parents=True, exist_ok=True)
    command = build_python_command(WORKER, str(sweep.path), str(number))
    with open(log, "wb") as file:
        # In its own session: a Ctrl-C in the terminal reaches it once, through this process.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, PARENT: str(os.getpid())},
        )  # fmt: skip
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.terminate()
            try:
                process.wait(STOP_S)
            finally:
                process.kill()
            raise


def _explain_status(status: int, log: Path) -> str:
    """Why a process left no record, as far as can be told from outside."""
    if status == -signal.SIGKILL:
        return "its process was killed (SIGKILL): by hand, or by the system because memory ran out"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}; see {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.removeprefix("error: ") for line in reversed(lines) if line.strip()), "it said nothing")
    return f"its process ended with status {status}: {last}"
