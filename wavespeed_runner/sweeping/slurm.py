"""The launcher `slurm`: a sweep's jobs as Slurm job arrays, submitted through submitit, followed until all have ended.

How a job ended is read from its record; Slurm is asked only which jobs are still there. The ids of what was submitted
stay in `slurm.json`, so that the same command, later or after a Ctrl-C, attaches to what is queued or running and
submits the rest. A job that Slurm has preempted and queued again goes on from the store.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sized
from contextlib import suppress
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, RunError, one_line
from ..record import write_text
from .folder import LOST
from .slurm_options import LOCAL, VARIABLE, Options, options_of
from .slurm_queue import STUCK, NoAnswer, State, final_state, look, max_array_size, why_lost
from .slurm_submit import Refused, submit

if TYPE_CHECKING:
    from .folder import SweepFolder
    from .jobs import Job

FILE, LOGS = "slurm.json", "slurm"
PROGRAMS = ("sbatch", "squeue", "scontrol", "srun")
"""`srun` is what submitit knows a cluster by."""
LOOKS = 3
"""So often in a row a job is seen gone before it counts as such: Slurm may be queueing it again, and what it wrote last
may be on its way through a shared file system."""
TRIES, TRIES_S = 5, 30.0
"""So often, and for so many seconds, Slurm is asked before it counts as out of reach."""

log = logging.getLogger("wavespeed_runner")


def launch(
    sweep: SweepFolder, jobs: list[Job], options: Options | Mapping[str, Any], on_end: Callable[[int], None]
) -> dict[int, str]:
    """Runs the jobs and calls `on_end(number)` as each ends.

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


class Tasks:
    """Which job was submitted as which task, in `slurm.json`; which are not over yet; what was said of them."""

    def __init__(self, sweep: SweepFolder) -> None:
        self.file = sweep.path / FILE
        try:
            known = json.loads(self.file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = {"schema_version": 1, "name": _name(sweep.path), "tasks": {}}
        except (OSError, ValueError) as error:
            raise RunError(f"{self.file}: cannot be read: {one_line(error)}; scancel its jobs and remove it") from None
        self.name: str = known["name"]
        """Of all its jobs in Slurm: finds also those whose submission was killed before they could be noted."""
        self.ids: dict[int, str] = {int(number): task["id"] for number, task in known["tasks"].items()}
        self.before: dict[int, int] = {int(number): task["before"] for number, task in known["tasks"].items()}
        """When what was there at the submission was written: it is of an earlier attempt."""
        self.identities: dict[int, str] = {n: str(t.get("identity")) for n, t in _numbered(known["tasks"])}
        """What each task is to run: a folder may be given to another sweep while tasks of the one before go on."""
        self.open: set[int] = set()
        self._said: set[str] = set()

    def add(self, ids: dict[int, str], before: dict[int, int], identities: dict[int, str]) -> None:
        self.ids |= ids
        self.before |= before
        self.identities |= identities
        self.open |= ids.keys()
        tasks = {
            str(number): {"id": task, "before": self.before[number], "identity": self.identities[number]}
            for number, task in sorted(self.ids.items())
        }
        write_text(self.file, json.dumps({"schema_version": 1, "name": self.name, "tasks": tasks}, indent=1) + "\n")

    def warn(self, message: str) -> None:
        """Says it once."""
        if message not in self._said:
            self._said.add(message)
            log.warning(message)

    def arrays(self) -> str:
        """Ids of what is not over yet, as `scancel` takes them."""
        found = {self.ids[number].partition("_")[0] for number in self.open}
        return " ".join(sorted(found, key=int))


def _numbered(tasks: dict[str, Any]) -> list[tuple[int, Any]]:
    return [(int(number), task) for number, task in tasks.items()]


def _wanted(job: Job) -> str:
    assert job.plan is not None
    return job.plan.identity


def _name(folder: Path) -> str:
    return f"wavespeed-{sha256(str(folder.resolve()).encode()).hexdigest()[:12]}"


def _attach(sweep: SweepFolder, jobs: list[Job], tasks: Tasks, options: Options) -> list[Job]:
    """Takes up what an earlier call has submitted and is still there; the other jobs, which are to be submitted."""
    states = _first_look(tasks.name, options.poll)
    # What is to be run again is not what is running.
    jobs_known = [job for job in jobs if job.plan is not None and not job.plan.config.rerun]
    known = {tasks.ids[job.number] for job in jobs_known if tasks.identities.get(job.number) == _wanted(job)}
    strays = [job for job, state in states.items() if state.alive and job not in known]
    if strays:  # of another sweep, or submitted by a process that was killed before it could note which jobs they are
        subprocess.run(["scancel", *strays], check=False, capture_output=True)
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
    sweep: SweepFolder, waiting: list[Job], tasks: Tasks, options: Options, on_end: Callable[[int], None]
) -> dict[int, str]:
    """Submits what waits, as Slurm takes it, and looks at queue and records until every job has ended."""
    lost: dict[int, str] = {}
    gone: dict[int, int] = {}
    size = max_array_size() if waiting else 0
    while waiting or tasks.open:
        while waiting and _submit(sweep, waiting[:size], tasks, options):
            waiting = waiting[size:]
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
                on_end(number)
        if tasks.open or waiting:
            time.sleep(options.poll)
    return lost


def _submit(sweep: SweepFolder, jobs: list[Job], tasks: Tasks, options: Options) -> bool:
    """Submits jobs as one array and notes their ids; whether Slurm has taken them, or will when others have ended.

    Raises:
        RunError: Slurm refuses them, and there is nothing to wait for.
    """
    numbers = [job.number for job in jobs]
    before = {number: _written(sweep, number) for number in numbers}
    try:
        ids = submit(sweep.path.resolve(), LOGS, numbers, tasks.name, options)
    except Refused as error:
        if tasks.open:
            tasks.warn(f"Slurm takes no more jobs for now ({error}); the others follow as these end")
            return False
        raise RunError(f"Slurm refuses the jobs: {error}; see hydra.launcher.*, {LOCAL}, ${VARIABLE}") from None
    tasks.add(ids, before, {job.number: _wanted(job) for job in jobs})
    array = ids[numbers[0]].partition("_")[0]
    print(f"Slurm: submitted {_jobs(ids)} as {array}; to cancel: scancel {array}; output: {sweep.path / LOGS}")
    return True


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
