"""What Slurm says of our jobs, from its queue. Accounting (`sacct`) is off on many clusters: it is asked last.

A controller that does not answer is an everyday thing: then nothing is known, and that is not the same as no jobs.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from ....errors import RunError, one_line, printable

ENDED = frozenset(
    (
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "REVOKED", "TIMEOUT",
    )
)  # fmt: skip
"""States that a job is in for good, but for a moment before Slurm queues it again; see
https://slurm.schedmd.com/squeue.html"""

STUCK = re.compile(r"held|never|invalid|badconstraints|Partition(Config|(Time|Node)Limit|Down)|Inactive", re.IGNORECASE)
"""Reasons for which a job waits until somebody does something."""

FOR_NOW = re.compile(
    r"submit\w*limit|submit limit|MaxJobCount|too many|temporarily un|unable to contact|timed out", re.IGNORECASE
)
"""In what `sbatch` says when it would take fewer jobs, or these later."""

ANSWER_S = 60
"""Seconds after which a call has failed."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A job as Slurm sees it."""

    name: str
    reason: str = ""
    """Why it waits or ended, in Slurm's words."""
    exit: str = ""
    """STATUS:SIGNAL of a job that ended."""

    @property
    def alive(self) -> bool:
        return self.name not in ENDED


class NoAnswer(Exception):
    """A command of Slurm's failed; the message is the last line that it said."""


def ask(*command: str) -> str:
    """What a command of Slurm's prints.

    Raises:
        NoAnswer: it failed, or took too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {ANSWER_S} s") from None
    except OSError as error:
        raise NoAnswer(one_line(error)) from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise NoAnswer(printable(lines[-1]) if lines else f"{command[0]} failed")
    return done.stdout


def asked(*command: str) -> str:
    """As `ask`; empty when there is no answer."""
    try:
        return ask(*command)
    except NoAnswer:
        return ""


def look(name: str) -> dict[str, State]:
    """The jobs of a name that are in the queue or left it within the last minutes, by id (`12`, or `12_3` in an array).

    Raises:
        NoAnswer: then nothing is known of them.
    """
    return read_queue(ask("squeue", "--noheader", "--array", "--states=all", f"--name={name}", "--format=%i|%T|%r"))


def cancel(jobs: list[str], name: str) -> None:
    """Cancels jobs of that name which are not wanted.

    Raises:
        RunError: they go on, and would work on the same jobs as those that are to be submitted.
    """
    try:
        ask("scancel", *jobs)
    except NoAnswer as error:
        with suppress(NoAnswer):  # they may have ended meanwhile, which scancel calls an error
            states = look(name)
            jobs = [job for job in jobs if job in states and states[job].alive]
        if jobs:
            raise RunError(
                f"hydra/launcher=slurm: scancel fails ({error}), so jobs of an earlier command may go on; cancel them, "
                f"then type the same command again: scancel {' '.join(jobs)}"
            ) from None


def read_queue(said: str) -> dict[str, State]:
    """`squeue`'s lines."""
    found = {}
    for line in said.splitlines():
        fields = line.strip().split("|", 2)
        if len(fields) == 3:
            found[fields[0]] = State(name=fields[1], reason="" if fields[2] == "None" else fields[2])
    return found


def final_state(job: str) -> State | None:
    """How a job ended; None where Slurm has forgotten it, which takes it some minutes without accounting."""
    said = asked("scontrol", "--oneliner", "show", "job", job)
    if found := read_job(said):
        return found
    said = asked("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode")
    fields = said.splitlines()[0].split("|") if said.strip() else []
    # sacct writes `CANCELLED by 0`.
    return State(name=fields[0].split()[0], exit=fields[1]) if len(fields) == 2 and fields[0].strip() else None


def read_job(said: str) -> State | None:
    """The line of `scontrol --oneliner show job`."""
    found = {key: value for key, value in re.findall(r"(?:^|\s)(JobState|Reason|ExitCode)=(\S+)", said)}
    if "JobState" not in found:
        return None
    reason = found.get("Reason", "")
    return State(name=found["JobState"], reason="" if reason == "None" else reason, exit=found.get("ExitCode", ""))


def max_array_size() -> int:
    """How many jobs an array may have; 1 where there are no arrays."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", asked("scontrol", "show", "config"), re.MULTILINE)
    return max(int(found[1]), 1) if found else 1000


def why_lost(job: str, state: State | None, *, minutes: int, memory: str | None, log: str) -> str:
    """Why a job left no final record, in one line, with the way out.

    Args:
        minutes, memory: what it was given.
        log: where its output lies.
    """
    if state is None:
        return f"Slurm job {job} is no longer in the queue; see {log}"
    ended = ", ".join(part for part in (f"exit {state.exit}" if state.exit else "", state.reason) if part)
    head = f"Slurm job {job}: {state.name}{f' ({ended})' if ended else ''}"
    given = f"{minutes} minute{'s' * (minutes != 1)}"
    ways = {
        "TIMEOUT": f"it had {given}; raise hydra.launcher.time, or run the same command: it goes on",
        "DEADLINE": f"it had {given}; raise hydra.launcher.time, or run the same command: it goes on",
        "OUT_OF_MEMORY": f"it had memory={memory or 'the default'}; raise hydra.launcher.memory",
        "CANCELLED": "somebody cancelled it; the same command runs it again",
        "NODE_FAIL": "its node was lost; the same command runs it again",
        "BOOT_FAIL": "its node did not start; the same command runs it again",
        "PREEMPTED": "it was preempted and not queued again; the same command runs it again",
    }
    return f"{head}; {ways.get(state.name, f'see {log}')}"
