"""The launcher `slurm`: runs a sweep's jobs as Slurm job arrays, submitted by submitit, and follows them to their end.

How a job ended is read from its record; Slurm is only asked which jobs are still there. The ids of submitted jobs stay
in `slurm.json`. So the same command, typed later or after a Ctrl-C, attaches to what is queued or running and submits
the rest. A job that Slurm preempts and queues again goes on from the store.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....errors import ConfigError, RunError
from .arrays import count_jobs, give_up_if_hopeless, submit_waiting, wanted_identity
from .endings import has_ended, take_ended
from .options import Options, resolve_options
from .preview import describe_submission
from .queue import USUAL_ARRAY_SIZE, NoAnswer, State, cancel, look_up_jobs, look_up_max_array_size
from .script import refuse_controls
from .submit import build_parameters, count_ranks
from .tasks import Tasks

if TYPE_CHECKING:
    from ...folder import SweepFolder
    from ...jobs import Job

PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel", "srun")
"""Needed on the PATH. submitit recognizes a cluster by `srun`."""
TRIES, TRIES_S = 5, 30.0
"""How often, and for how many seconds, Slurm is asked before it counts as out of reach."""


def launch(
    sweep: SweepFolder, jobs: list[Job], options: Options | Mapping[str, Any], on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number, reason)` as each ends; `reason` says why a job left no final record.

    Returns:
        number -> reason, for the jobs without a final record: cancelled, out of time or memory, on a node that died.

    Raises:
        ConfigError: an option is wrong, or this is no cluster.
        RunError: Slurm refuses the jobs, or cannot be reached to begin with.
        KeyboardInterrupt: after printing how to cancel the jobs, which go on.
    """
    resolved = check_options(options)
    tasks = Tasks(sweep)
    try:
        waiting = attach(sweep, jobs, tasks, resolved)
        return _follow(sweep, waiting, tasks, resolved, on_end)
    except KeyboardInterrupt:
        arrays = tasks.arrays()
        if arrays:
            print(f"Slurm goes on with the jobs; the same command attaches to them; to cancel them: scancel {arrays}")
        raise


def check_options(options: Options | Mapping[str, Any]) -> Options:
    """The options with their types. Raises ConfigError for a wrong one."""
    return options if isinstance(options, Options) else resolve_options(options)


def check_jobs(jobs: list[Job], options: Options | Mapping[str, Any]) -> None:
    """Raises ConfigError if the ranks of a job cannot be divided among its nodes."""
    for ranks in {count_ranks(job) for job in jobs if job.plan}:
        build_parameters("", check_options(options), ranks)


def check_folders(folders: Iterable[str]) -> None:
    """Raises ConfigError if a folder, or the one where the command runs, has a name that no script can hold."""
    refuse_controls("the folder where the command runs,", [os.getcwd()])
    refuse_controls("the folder", folders)


def check_cluster() -> None:
    """Raises ConfigError where Slurm or submitit is missing."""
    if missing := explain_missing():
        raise ConfigError(f"hydra/launcher=slurm: {missing}")


def explain_missing() -> str:
    """What of Slurm or submitit is missing here, and the way out; empty where nothing is."""
    if missing := [program for program in PROGRAMS if shutil.which(program) is None]:
        return f"no {missing[0]} here; run it where Slurm's commands are, or use hydra/launcher=isolated"
    return "" if find_spec("submitit") else "needs submitit: pip install 'wavespeed-runner[slurm]'"


def preview(jobs: list[Job], options: Options | Mapping[str, Any], folder: Path) -> list[str]:
    """Lines for a dry run: what `launch` would submit, and what is missing here; nothing is submitted or written.

    Args:
        jobs: of the sweep, those that are skipped among them.
        options: as of `launch`.
        folder: that the sweep would have.
    """
    missing, size = explain_missing(), look_up_max_array_size()
    notes = [f"it would be refused here: {missing}"] if missing else []
    if not missing and size is None:
        notes = [f"Slurm does not answer here, so its MaxArraySize is not known; {USUAL_ARRAY_SIZE} is usual"]
    wanted = [job for job in jobs if job.plan is not None]
    return describe_submission(wanted, check_options(options), folder, size or USUAL_ARRAY_SIZE, notes)


def attach(sweep: SweepFolder, jobs: list[Job], tasks: Tasks, options: Options) -> list[Job]:
    """Takes over the jobs of an earlier command that are still there. Returns the others, which are to be submitted.

    Jobs in the queue that this sweep does not want any more are cancelled.
    """
    states = _look_up_patiently(tasks.name, options.poll)
    # A job that is to run again (rerun=true) is not the one that is running.
    wanted = [job for job in jobs if job.plan is not None and not job.plan.config.rerun]
    known = {tasks.ids[job.number] for job in wanted if tasks.identities.get(job.number) == wanted_identity(job)}
    # Of another sweep, or submitted by a process that was killed before it could note which jobs they are.
    strays = [task for task, state in states.items() if state.alive and task not in known]
    if strays:
        cancel(strays, tasks.name)
    rest = []
    for job in jobs:
        task = tasks.ids.get(job.number, "")
        state = states.get(task)
        if task in known and state is not None and state.alive and not has_ended(sweep, tasks, job.number):
            tasks.open.add(job.number)
        else:
            rest.append(job)
    if tasks.open:
        print(f"Slurm: attached to {count_jobs(tasks.open)}, queued or running; to cancel: scancel {tasks.arrays()}")
    return rest


def _look_up_patiently(name: str, poll: float) -> dict[str, State]:
    """Slurm's queue; asked several times, for its controller may be busy or just starting."""
    began = time.monotonic()
    for attempt in range(1, TRIES + 1):
        try:
            return look_up_jobs(name)
        except NoAnswer as error:
            if attempt == TRIES or time.monotonic() - began > TRIES_S:
                raise RunError(
                    f"hydra/launcher=slurm: squeue fails ({error}), so Slurm's controller is out of reach; see sinfo, "
                    "and try again"
                ) from None
        time.sleep(poll)
    raise AssertionError("the last attempt returns or raises")


def _follow(
    sweep: SweepFolder, waiting: list[Job], tasks: Tasks, options: Options, on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Submits the waiting jobs as Slurm accepts them, and watches queue and records until every job has ended."""
    lost: dict[int, str] = {}
    absences: dict[int, int] = {}
    size = (look_up_max_array_size() or USUAL_ARRAY_SIZE) if waiting else 0
    count = size  # of the next array, at most; 0: Slurm accepts no more until one of our jobs has ended
    idle_since = None
    while waiting or tasks.open:
        if waiting and count:
            waiting, refused = submit_waiting(sweep, waiting, tasks, options, min(count, size))
            count = 0 if refused else size
            if refused and not tasks.open:
                idle_since = idle_since or time.monotonic()
                give_up_if_hopeless(refused, time.monotonic() - idle_since)
                count = 1
            else:
                idle_since = None
        ended = take_ended(sweep, tasks, options, absences, lost)
        count += len(ended)
        for number in ended:
            on_end(number, lost.get(number, ""))
        if tasks.open or waiting:
            time.sleep(options.poll)
    return lost
