"""Asks Slurm about our jobs. Accounting (`sacct`) is off on many clusters and is asked last.

It is common that a controller does not answer. Then nothing is known, which is not the same as no jobs.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass

from ....errors import RunError, format_error, make_printable

ENDED = frozenset(
    (
        "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
        "PREEMPTED", "REVOKED", "TIMEOUT",
    )
)  # fmt: skip
"""States of a job that is over, or that Slurm is about to queue again; see https://slurm.schedmd.com/squeue.html"""

STUCK = re.compile(r"held|never|invalid|badconstraints|Partition(Config|(Time|Node)Limit|Down)|Inactive", re.IGNORECASE)
"""Matches the reasons of a pending job that will not start until somebody acts."""

TRANSIENT = re.compile(
    r"submit\w*limit|submit limit|MaxJobCount|too many|temporarily un|unable to contact|timed out", re.IGNORECASE
)
"""Matches what `sbatch` prints when it would accept fewer jobs, or these later."""

ANSWER_S = 60
"""A command of Slurm that takes longer, in seconds, counts as failed."""


@dataclass(frozen=True, kw_only=True)
class State:
    """A job as Slurm sees it."""

    name: str
    reason: str = ""
    """Why it is waiting or has ended, in Slurm's words."""
    exit: str = ""
    """STATUS:SIGNAL of a job that has ended."""

    @property
    def alive(self) -> bool:
        """Whether the job is queued or running."""
        return self.name not in ENDED


class NoAnswer(Exception):
    """A command of Slurm failed; the message is the last line that it printed."""


def ask(*command: str) -> str:
    """Runs a command of Slurm and returns what it prints.

    Raises:
        NoAnswer: the command failed or took too long.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        raise NoAnswer(f"no answer within {ANSWER_S} s") from None
    except OSError as error:
        raise NoAnswer(format_error(error)) from None
    if done.returncode:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        raise NoAnswer(make_printable(lines[-1]) if lines else f"{command[0]} failed")
    return done.stdout


def ask_or_empty(*command: str) -> str:
    """As `ask`, but an empty text when there is no answer."""
    try:
        return ask(*command)
    except NoAnswer:
        return ""


def look_up_jobs(name: str) -> dict[str, State]:
    """The jobs of a name that are in the queue or left it within the last minutes.

    Returns:
        id (`12`, or `12_3` in an array) -> state.

    Raises:
        NoAnswer: nothing is known of them.
    """
    return parse_queue(ask("squeue", "--noheader", "--array", "--states=all", f"--name={name}", "--format=%i|%T|%r"))


def cancel(jobs: list[str], name: str) -> None:
    """Cancels jobs of that name.

    Raises:
        RunError: some go on. They would do the same work as the jobs that are to be submitted.
    """
    try:
        ask("scancel", *jobs)
    except NoAnswer as error:
        with suppress(NoAnswer):  # scancel also fails for jobs that have ended meanwhile, though it ends the others
            states = look_up_jobs(name)
            jobs = [job for job in jobs if job in states and states[job].alive and states[job].name != "COMPLETING"]
        if jobs:
            raise RunError(
                f"hydra/launcher=slurm: scancel fails ({error}), so jobs of an earlier command may go on; cancel them, "
                f"then type the same command again: scancel {' '.join(jobs)}"
            ) from None


def parse_queue(text: str) -> dict[str, State]:
    """States by id from the lines that `squeue` prints in our format; other lines are skipped."""
    states = {}
    for line in text.splitlines():
        fields = line.strip().split("|", 2)
        if len(fields) == 3:
            states[fields[0]] = State(name=fields[1], reason="" if fields[2] == "None" else fields[2])
    return states


def look_up_ended_job(job: str) -> State | None:
    """How a job ended; None where Slurm has forgotten it, as it does after some minutes without accounting."""
    text = ask_or_empty("scontrol", "--oneliner", "show", "job", job)
    if state := parse_job(text):
        return state
    text = ask_or_empty(
        "sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", "--format=State,ExitCode"
    )
    fields = text.splitlines()[0].split("|") if text.strip() else []
    # sacct writes `CANCELLED by 0`.
    return State(name=fields[0].split()[0], exit=fields[1]) if len(fields) == 2 and fields[0].strip() else None


def parse_job(text: str) -> State | None:
    """The state from the line that `scontrol --oneliner show job` prints; None where there is none in it."""
    values = {key: value for key, value in re.findall(r"(?:^|\s)(JobState|Reason|ExitCode)=(\S+)", text)}
    if "JobState" not in values:
        return None
    reason = values.get("Reason", "")
    return State(name=values["JobState"], reason="" if reason == "None" else reason, exit=values.get("ExitCode", ""))


USUAL_ARRAY_SIZE = 1000
"""Slurm's own default is 1001, one more than the largest index."""


def look_up_max_array_size() -> int | None:
    """How many jobs an array may have, 1 where there are no arrays; None where Slurm does not say."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", ask_or_empty("scontrol", "show", "config"), re.MULTILINE)
    return max(int(match[1]), 1) if match else None


def explain_loss(job: str, state: State | None, *, minutes: int, memory: str | None, log: str) -> str:
    """Why a job left no final record, and what to do, in one line.

    Args:
        job: Slurm's id.
        state: how it ended; None where Slurm has forgotten it.
        minutes: its time limit.
        memory: the memory that was asked for; None for the cluster's default.
        log: path of its output.
    """
    if state is None:
        return f"Slurm job {job} is no longer in the queue; see {log}"
    details = ", ".join(part for part in (f"exit {state.exit}" if state.exit else "", state.reason) if part)
    head = f"Slurm job {job}: {state.name}{f' ({details})' if details else ''}"
    limit = f"{minutes} minute{'s' * (minutes != 1)}"
    advice = {
        "TIMEOUT": f"its limit was {limit}; raise hydra.launcher.time, or run the same command: it goes on",
        "DEADLINE": f"its limit was {limit}; raise hydra.launcher.time, or run the same command: it goes on",
        "OUT_OF_MEMORY": f"it had memory={memory or 'the default'}; raise hydra.launcher.memory",
        "CANCELLED": "somebody cancelled it; the same command runs it again",
        "NODE_FAIL": "its node failed; the same command runs it again",
        "BOOT_FAIL": "its node did not start; the same command runs it again",
        "PREEMPTED": "it was preempted and not queued again; the same command runs it again",
    }
    return f"{head}; {advice.get(state.name, f'see {log}')}"
