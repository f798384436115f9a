"""Submits jobs to Slurm through submitit, as arrays, and defines what each task does.

A task runs in the batch script itself, without `srun`: all its processes get Slurm's signals, and a preempted job is
queued again under the same id. Only a job with several ranks is started by `srun`, once for each rank.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ....accelerate.parallel.options import find_layout
from ....errors import ConfigError, make_printable
from ....process.import_path import HOME, build_python_command
from ...jobs import Job
from ...worker import ELSEWHERE, WORKER
from .options import Options
from .script import build_executor_class


class Refused(Exception):
    """Slurm refuses the jobs; the message is its own."""


def submit(folder: Path, logs: str, jobs: list[Job], name: str, options: Options) -> dict[int, str]:
    """Submits jobs of a sweep, several of them as one array.

    Args:
        folder: of the sweep, absolute.
        logs: name of the folder in it for the tasks' output.
        jobs: all with as many ranks.
        name: of the jobs in Slurm.
        options: of the launcher.

    Returns:
        number -> Slurm's id: `12_0`, `12_1`, ..., or `12` for a single job.

    Raises:
        Refused: Slurm does not accept them.
    """
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    numbers, ranks = [job.number for job in jobs], count_ranks(jobs[0])
    executor = build_executor(folder / logs, name, options, ranks)
    try:
        with hide_own_slurm_job():
            submitted = executor.map_array(run_job, [str(folder)] * len(jobs), numbers, [ranks] * len(jobs))
    except (FailedJobError, FailedSubmissionError) as error:
        raise Refused(summarize_error(str(error))) from None
    return {number: task.job_id for number, task in zip(numbers, submitted, strict=True)}


def build_executor(logs: Path, name: str, options: Options, ranks: int, *, anywhere: bool = False) -> Any:
    """The executor of submitit that submits jobs.

    Args:
        logs: folder for the tasks' output.
        name: of the jobs in Slurm.
        options: of the launcher.
        ranks: of each job.
        anywhere: also where Slurm is missing, to see what would be submitted.
    """
    executor = build_executor_class(anywhere=anywhere)(logs, max_num_timeout=0, python=find_python())
    executor.update_parameters(**build_parameters(name, options, ranks))
    return executor


def find_python() -> str:
    """The Python of a task, as shell text. It imports nothing from the folder where the task begins.

    A checkout that is not installed has been found by `python -m` there; a task is told where it lies.
    """
    python = f"{shlex.quote(sys.executable)} -P"
    if HOME in sys.path:
        return python
    paths = os.pathsep.join(filter(None, [HOME, os.environ.get("PYTHONPATH")]))
    return f"env PYTHONPATH={shlex.quote(paths)} {python}"


def summarize_error(text: str) -> str:
    """The error that `sbatch` printed, in one line: the lines that it marks as errors, else the last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    own = [line.removeprefix("sbatch: error: ") for line in lines if line.startswith("sbatch: error: ")]
    return make_printable(": ".join(dict.fromkeys(own)) or (lines[-1] if lines else "sbatch failed"))


def count_ranks(job: Job) -> int:
    """The ranks that a job is computed by."""
    assert job.plan is not None
    return find_layout(job.plan.config.parallel).ranks


def run_job(folder: str, number: int, ranks: int = 1) -> None:
    """Runs one job: what a task does. Its exit status is the job's, so that Slurm's own tools show a failure."""
    command = build_python_command(WORKER, folder, str(number))
    if ranks > 1:
        # A step does not take over how many cores a task of its job has.
        cores = [f"--cpus-per-task={count}"] if (count := os.environ.get("SLURM_CPUS_PER_TASK")) else []
        command = ["srun", f"--ntasks={ranks}", *cores, "--mpi=none", "--kill-on-bad-exit=0", *command]
    status = subprocess.run(command, env={**os.environ, ELSEWHERE: "1"}).returncode
    sys.exit(status if status >= 0 else 128 - status)


def build_parameters(name: str, options: Options, ranks: int = 1) -> dict[str, Any]:
    """The options for submitit, which knows most of sbatch's options by name and takes the others as they are.

    Raises:
        ConfigError: the ranks cannot be divided among the nodes.
    """
    nodes = (options.nodes or 1) if ranks > 1 else 1
    if ranks % nodes:
        raise ConfigError(
            f"hydra.launcher.nodes={nodes}: a job of {ranks} ranks cannot be divided among them; "
            f"allowed: {', '.join(str(n) for n in range(1, ranks + 1) if ranks % n == 0)}"
        )
    tasks = ranks // nodes
    parameters = {
        "job_name": name,
        "partition": options.partition,
        "account": options.account,
        "qos": options.qos,
        "time": options.time,
        "gpus_per_node": options.gpus,
        "cpus_per_task": options.cpus and max(1, options.cpus // tasks),
        "mem": options.memory,
        "wckey": None,  # else submitit sets its own, which a cluster that checks these keys refuses
        "use_srun": False,
        "additional_parameters": {key: value for key, value in options.extra.items() if value is not False},
    }
    if ranks > 1:
        parameters |= {"nodes": nodes, "ntasks_per_node": tasks}
    if options.array_parallelism is not None:
        parameters["array_parallelism"] = options.array_parallelism
    return parameters


@contextmanager
def hide_own_slurm_job() -> Iterator[None]:
    """Takes Slurm's variables out of the environment: the sweep itself may run inside a Slurm job."""
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
