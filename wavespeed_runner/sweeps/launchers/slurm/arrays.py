"""Submits a sweep's waiting jobs as arrays of the size that Slurm accepts."""

from __future__ import annotations

import logging
from collections.abc import Sized
from itertools import takewhile
from typing import TYPE_CHECKING

from ....errors import RunError
from ....inputs.files import find_place
from .endings import LOGS, last_write
from .options import LOCAL, VARIABLE, Options
from .queue import TRANSIENT
from .submit import Refused, count_ranks, submit
from .tasks import Tasks

if TYPE_CHECKING:
    from ...folder import SweepFolder
    from ...jobs import Job

IDLE_S = 300.0
"""How many seconds Slurm may refuse jobs for transient reasons while it has none of ours."""

log = logging.getLogger("wavespeed_runner")


def submit_waiting(
    sweep: SweepFolder, waiting: list[Job], tasks: Tasks, options: Options, count: int
) -> tuple[list[Job], Refused | None]:
    """Submits jobs until all are submitted or Slurm refuses even one: users may have a limit that nothing tells.

    Args:
        sweep: the folder.
        waiting: the jobs.
        tasks: notes what is submitted.
        options: of the launcher.
        count: jobs of one array, at most.

    Returns:
        The jobs that still wait, and Slurm's refusal.
    """
    while waiting:
        jobs = take_alike(waiting, count)
        try:
            _submit_array(sweep, jobs, tasks, options)
        except Refused as refused:
            if len(jobs) == 1 or not TRANSIENT.search(str(refused)):
                if tasks.open:
                    tasks.warn(f"Slurm accepts no more jobs for now ({refused}); the others follow as these end")
                return waiting, refused
            count = len(jobs) // 2
        else:
            waiting = waiting[len(jobs) :]
    return waiting, None


def take_alike(waiting: list[Job], count: int) -> list[Job]:
    """The first jobs that need as many ranks, at most `count`: the jobs of an array ask for the same."""
    ranks = count_ranks(waiting[0])
    return list(takewhile(lambda job: count_ranks(job) == ranks, waiting[:count]))


def _submit_array(sweep: SweepFolder, jobs: list[Job], tasks: Tasks, options: Options) -> None:
    """Submits jobs as one array and notes their ids. Raises Refused."""
    numbers = [job.number for job in jobs]
    before = {number: last_write(sweep, number) for number in numbers}
    ids = submit(find_place(sweep.path), LOGS, jobs, tasks.name, options)
    tasks.add(ids, before, {job.number: wanted_identity(job) for job in jobs})
    array = ids[numbers[0]].partition("_")[0]
    print(f"Slurm: submitted {count_jobs(ids)} as {array}; to cancel: scancel {array}; output: {sweep.path / LOGS}")


def give_up_if_hopeless(refused: Refused, idle: float) -> None:
    """Decides about a refusal while Slurm has none of our jobs whose end could be waited for.

    A limit may be used up by other jobs, or by ours that Slurm is still ending; a controller may be starting again.

    Args:
        refused: Slurm's refusal.
        idle: for how many seconds this has been so.

    Raises:
        RunError: the reason will not pass, or has lasted too long.
    """
    if idle > IDLE_S or not TRANSIENT.search(str(refused)):
        raise RunError(f"Slurm refuses the jobs: {refused}; see hydra.launcher.*, {LOCAL}, ${VARIABLE}") from None
    if not idle:
        log.warning("Slurm accepts no job for now (%s); trying again for %.0f minutes", refused, IDLE_S / 60)


def wanted_identity(job: Job) -> str:
    """The identity of the run that a job is to make."""
    assert job.plan is not None
    return job.plan.identity


def count_jobs(jobs: Sized) -> str:
    """`3 jobs`, `1 job`."""
    return f"{len(jobs)} job{'s' * (len(jobs) != 1)}"
