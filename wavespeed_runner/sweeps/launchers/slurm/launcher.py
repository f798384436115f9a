"""The launcher `slurm`: a sweep's jobs as Slurm job arrays, submitted through submitit, followed until all have ended.

How a job ended is read from its record; Slurm is asked only which jobs are still there. The ids of what was submitted
stay in `slurm.json`, so that the same command, later or after a Ctrl-C, attaches to what is queued or running and
submits the rest. A job that Slurm has preempted and queued again goes on from the store.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Mapping, Sized
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ....errors import ConfigError, RunError
from ...folder import LOST
from .options import LOCAL, VARIABLE, Options, options_of
from .queue import (
    FOR_NOW,
    STUCK,
    NoAnswer,
    State,
    cancel,
    final_state,
    look,
    max_array_size,
    why_lost,
)
from .submit import Refused, submit
from .tasks import Tasks

if TYPE_CHECKING:
    from ...folder import SweepFolder
    from ...jobs import Job

LOGS = "slurm"
PROGRAMS = ("sbatch", "squeue", "scontrol", "scancel", "srun")
"""`srun` is what submitit knows a cluster by."""
LOOKS = 3
"""So often in a row a job is seen gone before it counts as such: Slurm may be queueing it again, and what it wrote last
may be on its way through a shared file system."""
TRIES, TRIES_S = 5, 30.0
"""So often, and for so many seconds, Slurm is asked before it counts as out of reach."""

IDLE_S = 300.0
"""Seconds for which Slurm may refuse jobs, for reasons that pass, while it has none of ours."""

log = logging.getLogger("wavespeed_runner")


def launch(
    sweep: SweepFolder, jobs: list[Job], options: Options | Mapping[str, Any], on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number, reason)` as each ends; a reason where it left no final record.

    Returns:
        number -> reason, of those that left no final record: cancelled, out of time or memory, with a node that died.

    Raises:
        ConfigError: an option is wrong, or this is no cluster.
        RunError: Slurm refuses the jobs, or cannot be reached to begin with.
        KeyboardInterrupt: after it was said how the jobs, which go on, are cancelled.
    """
    chosen = check(options)
    tasks = Tasks(sweep)
    try:
        waiting = _attach(sweep, jobs, tasks, chosen)
        return _follow(sweep, waiting, tasks, chosen, on_end)
    except KeyboardInterrupt:
        arrays = tasks.arrays()
        if arrays:
            print(f"Slurm goes on with the jobs; the same command attaches to them; to cancel them: scancel {arrays}")
        raise


def check(options: Options | Mapping[str, Any]) -> Options:
    """The options, typed. Raises `ConfigError` for one that is wrong."""
    return options if isinstance(options, Options) else options_of(options)


def ready() -> None:
    """Raises `ConfigError` where there is no Slurm or no submitit."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ConfigError(
            f"hydra/launcher=slurm: no {missing[0]} here; run it where Slurm's commands are, or use "
            "hydra/launcher=isolated"
        )
    if find_spec("submitit") is None:
        raise ConfigError("hydra/launcher=slurm: needs submitit: pip install 'wavespeed-runner[slurm]'")


def _wanted(job: Job) -> str:
    assert job.plan is not None
    return job.plan.identity


def _attach(sweep: SweepFolder, jobs: list[Job], tasks: Tasks, options: Options) -> list[Job]:
    """Takes up what an earlier call has submitted and is still there; the other jobs, which are to be submitted."""
    states = _first_look(tasks.name, options.poll)
    # What is to be run again is not what is running.
    jobs_known = [job for job in jobs if job.plan is not None and not job.plan.config.rerun]
    known = {tasks.ids[job.number] for job in jobs_known if tasks.identities.get(job.number) == _wanted(job)}
    strays = [job for job, state in states.items() if state.alive and job not in known]
    if strays:  # of another sweep, or submitted by a process that was killed before it could note which jobs they are
        cancel(strays, tasks.name)
    rest = []
    for job in jobs:
        state = states.get(tasks.ids.get(job.number, ""))
        mine = tasks.ids.get(job.number) in known
        if mine and state is not None and state.alive and not _ended(sweep, tasks, job.number):
            tasks.open.add(job.number)
        else:
            rest.append(job)
    if tasks.open:
        print(f"Slurm: attached to {_jobs(tasks.open)}, queued or running; to cancel: scancel {tasks.arrays()}")
    return rest


def _first_look(name: str, poll: float) -> dict[str, State]:
    """Slurm's queue, asked some times over: its controller may be busy, or just starting."""
    began = time.monotonic()
    for tried in range(1, TRIES + 1):
        try:
            return look(name)
        except NoAnswer as error:
            if tried == TRIES or time.monotonic() - began > TRIES_S:
                raise RunError(
                    f"hydra/launcher=slurm: squeue fails ({error}), so Slurm's controller is out of reach; see sinfo, "
                    "and try again"
                ) from None
        time.sleep(poll)
    raise AssertionError("the last try returns or raises")


def _follow(
    sweep: SweepFolder, waiting: list[Job], tasks: Tasks, options: Options, on_end: Callable[[int, str], None]
) -> dict[int, str]:
    """Submits what waits, as Slurm takes it, and looks at queue and records until every job has ended."""
    lost: dict[int, str] = {}
    gone: dict[int, int] = {}
    size = max_array_size() if waiting else 0
    count = size  # of so many the next array may be; 0: Slurm takes no more until one of ours has ended
    idle_since = None
    while waiting or tasks.open:
        if waiting and count:
            waiting, refused = _fill(sweep, waiting, tasks, options, min(count, size))
            count = 0 if refused else size
            if refused and not tasks.open:
                idle_since = idle_since or time.monotonic()
                _give_up(refused, time.monotonic() - idle_since)
                count = 1
            else:
                idle_since = None
        ended = _ended_now(sweep, tasks, options, gone, lost)
        count += len(ended)
        for number in ended:
            on_end(number, lost.get(number, ""))
        if tasks.open or waiting:
            time.sleep(options.poll)
    return lost


def _fill(
    sweep: SweepFolder, waiting: list[Job], tasks: Tasks, options: Options, count: int
) -> tuple[list[Job], Refused | None]:
    """Submits jobs, as arrays of so many at most, until all are or Slurm refuses even one: there may be a limit for
    each user, which nobody tells. What still waits, and what Slurm said."""
    while waiting:
        count = min(count, len(waiting))
        try:
            _submit(sweep, waiting[:count], tasks, options)
        except Refused as refused:
            if count == 1 or not FOR_NOW.search(str(refused)):
                if tasks.open:
                    tasks.warn(f"Slurm takes no more jobs for now ({refused}); the others follow as these end")
                return waiting, refused
            count //= 2
        else:
            waiting = waiting[count:]
    return waiting, None


def _give_up(refused: Refused, idle: float) -> None:
    """Of a refusal while none of our jobs is there whose end could be waited for; for so many seconds now.

    A limit may be used up by other jobs, or by ours that Slurm is still ending; a controller may be starting again.

    Raises:
        RunError: waiting is in vain, or was.
    """
    if idle > IDLE_S or not FOR_NOW.search(str(refused)):
        raise RunError(f"Slurm refuses the jobs: {refused}; see hydra.launcher.*, {LOCAL}, ${VARIABLE}") from None
    if not idle:
        log.warning("Slurm takes no job for now (%s); it is asked for %.0f minutes", refused, IDLE_S / 60)


def _ended_now(
    sweep: SweepFolder, tasks: Tasks, options: Options, gone: dict[int, int], lost: dict[int, str]
) -> list[int]:
    """Looks at queue and records once: the jobs that have ended since.

    Args:
        gone: how often in a row a job was not in the queue any more; kept up to date.
        lost: reasons of jobs that left no final record; added to.
    """
    found = []
    # The queue first: what then is gone from it has written its record before we look for it.
    try:
        states = look(tasks.name)
    except NoAnswer:
        states = None
        tasks.warn("squeue fails, so Slurm's controller is out of reach; the jobs go on, and it is asked again")
    for number in sorted(tasks.open):
        job, ended = tasks.ids[number], _ended(sweep, tasks, number)
        if not ended and states is not None:
            state = states.get(job)
            _warn_if_stuck(tasks, job, state)
            gone[number] = 0 if state and state.alive else gone.get(number, 0) + 1
            ended = gone[number] >= LOOKS
            if ended and sweep.outcome(number).status != "completed":
                lost[number] = _why(sweep, job, options)
                sweep.mark_lost(number, lost[number])
        if ended:
            tasks.open.discard(number)
            outcome = sweep.outcome(number)
            if outcome.status == "lost":  # by the task's own word, too
                lost[number] = outcome.reason
            found.append(number)
    return found


def _submit(sweep: SweepFolder, jobs: list[Job], tasks: Tasks, options: Options) -> None:
    """Submits jobs as one array and notes their ids.

    Raises:
        Refused: by Slurm.
    """
    numbers = [job.number for job in jobs]
    before = {number: _written(sweep, number) for number in numbers}
    ids = submit(sweep.path.resolve(), LOGS, numbers, tasks.name, options)
    tasks.add(ids, before, {job.number: _wanted(job) for job in jobs})
    array = ids[numbers[0]].partition("_")[0]
    print(f"Slurm: submitted {_jobs(ids)} as {array}; to cancel: scancel {array}; output: {sweep.path / LOGS}")


def _jobs(some: Sized) -> str:
    return f"{len(some)} job{'s' * (len(some) != 1)}"


def _warn_if_stuck(tasks: Tasks, job: str, state: State | None) -> None:
    if state and state.name == "PENDING" and STUCK.search(state.reason):
        array = job.partition("_")[0]
        tasks.warn(f"Slurm holds {array} back ({state.reason}), for ever unless you mend it; or scancel {array}")


def _written(sweep: SweepFolder, number: int) -> int:
    """When a job's last word was written, in nanoseconds; 0 where there is none."""
    found = 0
    for name in ("record.json", LOST):
        with suppress(OSError):
            found = max(found, (sweep.job(number) / name).stat().st_mtime_ns)
    return found


def _ended(sweep: SweepFolder, tasks: Tasks, number: int) -> bool:
    """Whether the attempt that was submitted says how it ended. Interrupted is no end: Slurm may queue it again."""
    if _written(sweep, number) in (0, tasks.before.get(number)):
        return False
    return sweep.outcome(number).status in ("completed", "failed", "lost")


def _why(sweep: SweepFolder, job: str, options: Options) -> str:
    """Why a task left no final record."""
    file = sweep.path / LOGS / f"{job}_0_log.err"
    return why_lost(job, final_state(job), minutes=options.time, memory=options.memory, log=str(file))
