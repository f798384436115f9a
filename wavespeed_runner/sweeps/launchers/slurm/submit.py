"""Hands jobs to Slurm through submitit, as arrays, and says what each task does.

A task runs in the batch script itself, without `srun`: all its processes get Slurm's signals, and what Slurm preempts
is queued again under the same id.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ....errors import printable
from ...worker import ELSEWHERE
from .options import Options


class Refused(Exception):
    """Slurm does not take the jobs; the message is its own."""


def submit(folder: Path, logs: str, numbers: list[int], name: str, options: Options) -> dict[int, str]:
    """Submits jobs of a sweep's folder, several as one array.

    Returns:
        number -> Slurm's id: `12_0`, `12_1`, ..., or `12` for a job alone.

    Raises:
        Refused: by Slurm.
    """
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    executor = SlurmExecutor(folder / logs, max_num_timeout=0)
    executor.update_parameters(**_parameters(name, options))
    try:
        with _outside_of_any_job():
            made = executor.map_array(run_job, [str(folder)] * len(numbers), numbers)
    except (FailedJobError, FailedSubmissionError) as error:
        raise Refused(_words(str(error))) from None
    return {number: task.job_id for number, task in zip(numbers, made, strict=True)}


def _words(said: str) -> str:
    """What `sbatch` said of an error, in one line: its own lines, else the last one."""
    lines = [line for line in said.splitlines() if line.strip()]
    own = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch: error: ")]
    return printable(": ".join(dict.fromkeys(own)) or (lines[-1] if lines else "sbatch failed"))


def run_job(folder: str, number: int) -> None:
    """What a task does. Its exit status is the job's, so that Slurm's own tools tell of a failure."""
    command = [sys.executable, "-m", "wavespeed_runner.sweeps.worker", folder, str(number)]
    status = subprocess.run(command, env={**os.environ, ELSEWHERE: "1"}).returncode
    sys.exit(status if status >= 0 else 128 - status)


def _parameters(name: str, options: Options) -> dict[str, Any]:
    """For submitit, which knows most of sbatch's options by name and takes the others as they are."""
    given = {
        "job_name": name,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time,
        "gpus_per_node": options.gpus,
        "cpus_per_task": options.cpus,
        "mem": options.memory,
        "wckey": None,  # submitit's own, which a cluster that keeps such books would refuse
        "use_srun": False,
        "additional_parameters": {key: value for key, value in options.extra.items() if value is not False},
    }
    if options.array_parallelism is not None:
        given["array_parallelism"] = options.array_parallelism
    return given


@contextmanager
def _outside_of_any_job() -> Iterator[None]:
    """The environment, without what Slurm has told the job that the sweep itself may be run in."""
    hidden: dict[str, str] = {}
    if "SLURM_JOB_ID" in os.environ:
        hidden = {key: value for key, value in os.environ.items() if key.startswith(("SLURM_", "SLURMD_", "SRUN_"))}
        hidden.pop("SLURM_CONF", None)
    for key in hidden:
        del os.environ[key]
    try:
        yield
    finally:
        os.environ.update(hidden)
