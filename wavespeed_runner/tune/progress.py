"""Prints how far a tuning is: a line for each round, and one for each setting as it ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..sweeps.jobs import Job
from ..sweeps.progress import Progress, describe_figures
from ..sweeps.status import Outcome


class RoundProgress(Progress):
    """The progress of one round: a sweep's, without its table."""

    def __init__(
        self,
        folder: Path,
        jobs: list[Job],
        axes: list[str],
        outcomes: dict[int, Outcome],
        *,
        names: list[str],
        figures: Callable[[int], str],
        limit: Callable[[int], float | None],
    ) -> None:
        """As `Progress`; for each job the name of its setting, and what its record says of the bounds.

        `limit` tells the most that a job can be faster, where its times say more than that.
        """
        super().__init__(folder, jobs, axes, outcomes)
        self.of_settings, self.of_bounds, self.limit = names, figures, limit

    def figures(self, number: int) -> str:
        """What a sweep tells, and what decides here, if that is something else."""
        outcome = self.outcomes[number]
        if (most := self.limit(number)) is not None:
            outcome = replace(outcome, speedup=most, same_run=False)
        return "  ".join(part for part in (describe_figures(outcome), self.of_bounds(number)) if part)

    def label(self, number: int, names: list[str] | None = None) -> str:
        """The setting as it would be typed."""
        return self.of_settings[number]

    def begin(self, waiting: int) -> None:
        """How much of the round is done already."""
        self.waiting = waiting
        counts = Counter(outcome.status for outcome in self.outcomes.values())
        if done := counts["completed"]:
            self._say(f"  {done} done before", style="dim")

    def end(self) -> None:
        """The failures; what was measured is told by the search."""
        for job in self.jobs:
            outcome = self.outcomes[job.number]
            if outcome.status in ("failed", "lost", "interrupted", "unfinished"):
                self._say(f"  {self.label(job.number)}: {outcome.reason or outcome.status}", style="red")
