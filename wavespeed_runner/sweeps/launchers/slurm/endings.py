"""Finds out which submitted jobs have ended, and why a job left no final record."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from ...folder import LOST
from .options import Options
from .queue import STUCK, NoAnswer, State, explain_loss, look_up_ended_job, look_up_jobs
from .tasks import Tasks

if TYPE_CHECKING:
    from ...folder import SweepFolder

LOGS = "slurm"
"""Folder of the tasks' output, in the sweep's folder."""
LOOKS = 3
"""How often in a row a job must be missing from the queue before it counts as gone. Slurm may be queueing it again, and
its record may still be on its way through a shared file system."""


def take_ended(
    sweep: SweepFolder, tasks: Tasks, options: Options, absences: dict[int, int], lost: dict[int, str]
) -> list[int]:
    """Looks at queue and records once. Returns the jobs that have ended since, which `tasks` no longer holds open.

    Args:
        sweep: the folder.
        tasks: the submitted jobs.
        options: of the launcher.
        absences: how often in a row each job was missing from the queue; updated.
        lost: why jobs left no final record; updated.
    """
    # The queue first: a job that is missing from it has written its record before we look for that.
    try:
        states = look_up_jobs(tasks.name)
    except NoAnswer:
        states = None
        tasks.warn("squeue fails, so Slurm's controller is out of reach; the jobs go on, and it is asked again")
    ended = []
    for number in sorted(tasks.open):
        task, is_over = tasks.ids[number], has_ended(sweep, tasks, number)
        if not is_over and states is not None:
            state = states.get(task)
            _warn_if_stuck(tasks, task, state)
            absences[number] = 0 if state and state.alive else absences.get(number, 0) + 1
            is_over = absences[number] >= LOOKS
            if is_over and sweep.outcome(number).status != "completed":
                lost[number] = _explain_loss(sweep, task, options)
                sweep.mark_lost(number, lost[number])
        if is_over:
            tasks.open.discard(number)
            outcome = sweep.outcome(number)
            if outcome.status == "lost":  # the task itself may have noted a reason
                lost[number] = outcome.reason
            ended.append(number)
    return ended


def has_ended(sweep: SweepFolder, tasks: Tasks, number: int) -> bool:
    """Whether the submitted attempt has noted how it ended. Interrupted is no end: Slurm may queue the job again."""
    if last_write(sweep, number) in (0, tasks.before.get(number)):
        return False
    return sweep.outcome(number).status in ("completed", "failed", "lost")


def last_write(sweep: SweepFolder, number: int) -> int:
    """When a job's record or `lost.json` was written, whichever is newer, in nanoseconds; 0 where there is none."""
    newest = 0
    for name in ("record.json", LOST):
        with suppress(OSError):
            newest = max(newest, (sweep.job(number) / name).stat().st_mtime_ns)
    return newest


def _warn_if_stuck(tasks: Tasks, task: str, state: State | None) -> None:
    if state and state.name == "PENDING" and STUCK.search(state.reason):
        array = task.partition("_")[0]
        tasks.warn(f"Slurm is holding job {array} ({state.reason}); fix the cause or run scancel {array}")


def _explain_loss(sweep: SweepFolder, task: str, options: Options) -> str:
    log = sweep.path / LOGS / f"{task}_0_log.err"
    return explain_loss(task, look_up_ended_job(task), minutes=options.time, memory=options.memory, log=str(log))
