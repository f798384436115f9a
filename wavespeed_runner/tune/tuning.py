"""What a tuning is given, and what it has found so far: the search, the judging and the answer's files share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..planning.plan import Plan
from .ablation import Ablation
from .aim import Aim
from .budget import Budget
from .result import Result
from .rounds import Rounds
from .settings import Cut, Point, Setting
from .shared import Shared
from .space import Space


@dataclass(kw_only=True)
class Tuning:
    """What a tuning is given, and what it has found and judged."""

    plan: Plan
    """Of the full run."""
    planner: Callable[[Sequence[Point]], tuple[list[Setting], list[Cut]]]
    """Plans points, see `plan_settings`."""
    space: Space
    aim: Aim
    tuning: Rounds
    judging: Rounds
    seed: int
    budget: Budget
    tell: Callable[[str], None]
    folder: Path
    """Where everything is written."""
    shared: list[Shared] = field(default_factory=list)
    """Settings of shared experiments, which are tried too."""
    answer: Result | None = None
    """On the prompts for judging; None: no setting keeps the bounds, the reference is the answer."""
    tuned: Result | None = None
    """The same setting on the prompts for tuning."""
    ablation: list[Ablation] = field(default_factory=list)
    """Of what the search found best; empty where a shared setting became the answer, or no time was left."""
    looks: int = 0
    """Settings that were shown to the prompts for judging."""
    look: int = 0
    """Which of them the answer was."""
    taken_back: dict[str, Result] = field(default_factory=dict)
    """Identity -> what keeps the bounds on the prompts for tuning, by less than harder prompts ask for: not judged."""
    kept: list[Result] = field(default_factory=list)
    """What keeps the bounds on the prompts for judging, with its figures on these: the answer, and what is slower."""
    missed: list[Result] = field(default_factory=list)
    """What keeps the bounds on the prompts for tuning and not on the others, with its figures on the others."""
    confidences: dict[str, float] = field(default_factory=dict)
    """Identity -> the one-sided confidence that a setting was judged with: more with each look."""
    cuts: list[Cut] = field(default_factory=list)
    grid: dict[str, float] = field(default_factory=dict)
    """Every setting that could have been tried -> the share of the reference's work that is foreseen."""
    nearest: Result | None = None
    """Where nothing keeps the bounds: what misses by least, of what was tried on all prompts for tuning or the most."""
