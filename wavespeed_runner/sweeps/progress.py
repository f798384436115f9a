"""Prints a sweep's progress: a line for each job as it ends; then a table, every failure, and what was skipped.

Reads outcomes and computes nothing new. Made for terminals and for CI logs.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.compose import find_key
from ..process.pipes import get_styled_output
from ..records.labels import shorten_to_parts, shorten_to_words
from ..report.console_table import NOTES, Column, make_table
from ..report.console_text import encode_for
from ..report.remarks import enumerate_forks, explain_apart
from .jobs import Job
from .status import NEVER_HIT, Outcome

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ROWS = 60
"""Most jobs in the table; the report lists all."""
COLUMNS = 2
"""Most swept keys that get a column each."""
FIGURES = ("time", "speedup", "computed", "SSIM")
"""Columns of the table, in the order of `_cells`."""
FAILED = ("failed", "interrupted", "lost", "unfinished")


class Progress:
    """Prints the progress of one sweep; `outcomes` are kept up to date by the loop over the jobs."""

    def __init__(self, folder: Path, jobs: list[Job], axes: list[str], outcomes: dict[int, Outcome]) -> None:
        """Prepares the names of the jobs.

        Args:
            folder: of the sweep.
            jobs: all of them.
            axes: the keys in which the jobs differ.
            outcomes: job number -> how it ended.
        """
        from rich.console import Console

        self.folder, self.jobs, self.outcomes = folder, jobs, outcomes
        self.console = Console(file=get_styled_output(), highlight=False)
        self.gone = False
        self.names = list(shorten_to_parts(axes).values())
        given = [{find_key(o): o.partition("=")[2] for o in job.overrides} for job in jobs]
        self.values = {job.number: [one.get(key, "") for key in axes] for job, one in zip(jobs, given, strict=True)}
        # Of many keys in one column of the table.
        self.shorter = [name.replace(" ", "_") for name in shorten_to_words(axes).values()]
        self.waiting = self.ended = 0

    def begin(self, waiting: int) -> None:
        """The first line: how much there is to do, and where it goes."""
        self.waiting = waiting
        counts = Counter(outcome.status for outcome in self.outcomes.values())
        parts = [f"sweep of {_counted(len(self.jobs), 'job')}"]
        parts += [f"{counts['completed']} done before"] * (counts["completed"] > 0)
        parts += [f"{counts['skipped']} skipped"] * (counts["skipped"] > 0)
        left = [job.plan for job in self.jobs if job.plan and self.outcomes[job.number].status == "missing"]
        kind = "video" if any(plan.config.num_frames for plan in left) else "image"
        parts += [f"{_counted(sum(len(plan.samples) for plan in left), kind)} to make"] * bool(left)
        self._say(f"{', '.join(parts)}: {self.folder}")

    def job(self, number: int) -> None:
        """The line of a job that has ended."""
        self.ended += 1
        outcome = self.outcomes[number]
        place = f"{self.ended:{len(str(self.waiting))}}/{self.waiting}"
        said = f"{outcome.status}: {outcome.reason}" if outcome.status in FAILED else self.figures(number)
        self._say(f"{place}  {self.label(number)}  {said}", style="red" if outcome.status in FAILED else "")

    def figures(self, number: int) -> str:
        """What a completed job gave."""
        return describe_figures(self.outcomes[number])

    def label(self, number: int, names: list[str] | None = None) -> str:
        """The job's name: the values in which it differs from the other jobs."""
        pairs = zip(names or self.names, self.values[number], strict=True)
        return " ".join(f"{name}={value}" for name, value in pairs if value != "") or f"job {number}"

    def end(self) -> None:
        """The table, the failures with their reasons, what was skipped and why, and where the report is made."""
        self._print("")
        self._table()
        by_status: dict[str, list[Job]] = {}
        for job in self.jobs:
            by_status.setdefault(self.outcomes[job.number].status, []).append(job)
        for status in FAILED:
            if found := by_status.get(status):
                self._say(f"{len(found)} {status}", style="bold red")
            for job in found or ():
                label, name = self.label(job.number), f"job {job.number}"
                which = name if label == name else f"{name} ({label})"
                self._say(f"  {which}: {self.outcomes[job.number].reason or status}")
        for reason, count in Counter(job.skipped for job in by_status.get("skipped", ())).items():
            self._say(f"{count} skipped: {reason}", style="yellow")
        if missing := by_status.get("missing"):
            self._say(f"{len(missing)} not run yet", style="yellow")
        if never := [number for number, outcome in self.outcomes.items() if outcome.never_hit]:
            self._never_hit(never)
        forks = [(f"job {number}", outcome.forks) for number, outcome in self.outcomes.items() if outcome.forks]
        for sentence in enumerate_forks(forks):
            self._say(sentence)
        if guesses := [outcome for outcome in self.outcomes.values() if outcome.speedup and not outcome.same_run]:
            self._say(explain_apart(all(outcome.timed_together for outcome in guesses)), style="dim")
        self._say(f"sweep   {self.folder}")
        self._say(f"report  python -m wavespeed_runner report {self.folder}")

    def _never_hit(self, numbers: list[int]) -> None:
        """Prints in which jobs the cache never hit, and the first one's reason."""
        which = f"job{'s' * (len(numbers) != 1)} {', '.join(map(str, numbers))}"
        why = self.outcomes[numbers[0]].never_hit.removeprefix(NEVER_HIT).removeprefix(": ")
        self._say(f"{NEVER_HIT} in {which}{f': {why}' if why else ''}", style="yellow")

    def _table(self) -> None:
        # Many narrow columns are hard to read: then the settings share one.
        apart = len(self.names) <= COLUMNS
        listed = self.jobs[:ROWS]
        figures = {job.number: _cells(self.outcomes[job.number]) for job in listed}
        # Without a reference there is no speed-up and no quality.
        known = [i for i in range(len(FIGURES)) if any(cells[i] for cells in figures.values())]
        columns = [
            Column(head="job", justify="right"),
            *(Column(head=name) for name in (self.names if apart else ["setting"])),
            *(Column(head=FIGURES[i], justify="right", breaks=NOTES) for i in known),
            Column(head="status"),
        ]
        rows = []
        for job in listed:
            outcome = self.outcomes[job.number]
            settings = self.values[job.number] if apart else [self.label(job.number, self.shorter)]
            rows.append([str(job.number), *settings, *(figures[job.number][i] for i in known), outcome.status])
        table = make_table(self.console, columns, rows, ["dim" if job.plan is None else "" for job in listed])
        self._print(table, crop=False)
        if len(self.jobs) > ROWS:
            self._say(f"... and {len(self.jobs) - ROWS} jobs more", style="dim")
        self._print("")

    def _say(self, text: str, style: str = "") -> None:
        self._print(_text(self.console, text), style=style, soft_wrap=True)

    def _print(self, *what: Any, **how: Any) -> None:
        """Prints; a closed pipe or terminal (`| head`) must not end hours of work."""
        if self.gone:
            return
        try:
            self.console.print(*what, **how)
        except (OSError, SystemExit):  # rich raises SystemExit for a broken pipe
            self.gone = True
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def describe_figures(outcome: Outcome) -> str:
    """`66 ms  2.77x  36 % computed  SSIM 0.9781`: what a completed job gave."""
    seconds, speedup, share, ssim = _cells(outcome)
    computed = NEVER_HIT if outcome.never_hit else f"{share} computed" if share else ""
    return "  ".join(part for part in (seconds, speedup, computed, f"SSIM {ssim}" if ssim else "") if part)


def _cells(outcome: Outcome) -> list[str]:
    """Time, speedup, computed share, SSIM; "" for what is not known."""
    seconds = outcome.seconds
    time = "" if seconds is None else f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
    guess = "" if outcome.same_run else "~"
    speedup = f"{guess}{outcome.speedup:.2f}×" if outcome.speedup else ""  # noqa: RUF001
    # Without a cache, and with no fewer steps than the reference's, it would tell nothing.
    part = outcome.computed_share
    share = "" if part is None or (part == 1 and not outcome.never_hit) else f"{100 * part:.0f} %"
    forks = f" ({_counted(outcome.forks.count, 'fork')})" if outcome.forks and outcome.forks.count else ""
    return [time, speedup, share, "" if outcome.ssim is None else f"{outcome.ssim:.4f}{forks}"]


def _text(console: Console, text: str) -> Text:
    from rich.text import Text

    return Text(encode_for(console, text))
