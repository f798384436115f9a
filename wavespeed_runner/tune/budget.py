"""How much a tuning may spend."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import monotonic


@dataclass(kw_only=True)
class Budget:
    """How much may be spent: jobs, or seconds of this command."""

    jobs: int | None = None
    seconds: float | None = None
    started: float = field(default_factory=monotonic)
    spent: str = ""
    """Why the search was ended, once it was."""

    def is_over(self, jobs: int) -> bool:
        """Whether it is used up after so many jobs."""
        if self.jobs is not None and jobs >= self.jobs:
            self.spent = f"budget={self.jobs}jobs is used up"
        if self.seconds is not None and monotonic() - self.started >= self.seconds:
            self.spent = f"budget={self.seconds:g}s is used up"
        return bool(self.spent)
