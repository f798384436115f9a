"""A whole tuning on two halves of prompts of which all times and qualities are known; one half may be harder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.tune.simulated import Simulated
from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.bounds import parse_bounds
from wavespeed_runner.tune.budget import Budget
from wavespeed_runner.tune.settings import Setting
from wavespeed_runner.tune.shared import Shared
from wavespeed_runner.tune.space import Family, read_space
from wavespeed_runner.tune.tune import tune
from wavespeed_runner.tune.tuning import Tuning

STEPS, PROMPTS = 40, 32
TOLD: list[str] = []
"""What the last tuning has told."""
LOSSES = {steps: 0.16 / steps for steps in range(4, 25)}
"""Fewer steps lose more: 0.02 with 8 of them, 0.01 with 16."""


class WithPrompts(Simulated):
    """A half of the prompts, all of which lose so many times as much as `LOSSES`."""

    def __init__(self, times_as_hard: float) -> None:
        def quality(name: str, place: int) -> float:
            return 1 - times_as_hard * LOSSES[int(name)] * (1 + 0.01 * (-1) ** place)

        super().__init__(times={str(steps): steps / STEPS for steps in LOSSES}, quality=quality)
        self.prompts = [str(place) for place in range(PROMPTS)]
        self.jobs = 0


def plan(points: Sequence[dict[str, Any]]) -> tuple[list[Setting], list[Any]]:
    """Only the steps of one solver can be planned."""
    known = [point for point in points if point.keys() == {"sampler", "steps"} and point["sampler"] == "unipc"]
    return [
        Setting(point=point, identity=str(point["steps"]), work=point["steps"] / STEPS)
        for point in known
        if point["steps"] in LOSSES
    ], []


def find(
    quality: str,
    times_as_hard: float,
    shared: Sequence[str] = (),
    easy: Sequence[str] = (),
    alone: Sequence[str] = (),
    budget: Budget | None = None,
) -> tuple[Tuning, list[str]]:
    """A tuning whose other prompts are so many times as hard, and what was judged on them.

    Args:
        quality: the bounds.
        times_as_hard: the prompts for judging.
        shared: settings of shared experiments.
        easy: settings for which the prompts for judging are as hard as the others.
        alone: settings that are ladders of their own too, so that they are confirmed beside others.
        budget: of the search; None: no end.
    """
    space = read_space("quick", None, STEPS)
    ladders = [
        Family(name=f"shared {one}.yaml", set={"sampler": "unipc"}, choose={}, key="steps", values=[int(one)])
        for one in alone
    ]
    judging, plain = WithPrompts(times_as_hard), WithPrompts(1.0)
    quality_of = judging.quality
    judging.quality = lambda name, place: (plain.quality if name in easy else quality_of)(name, place)
    tuning = Tuning(
        plan=None,  # type: ignore[arg-type]
        planner=plan,
        space=replace(space, families=[*space.families, *ladders]),
        aim=Aim(bounds=parse_bounds(quality, ("ssim",))),
        tuning=WithPrompts(1.0),  # type: ignore[arg-type]
        judging=judging,  # type: ignore[arg-type]
        seed=0,
        budget=budget or Budget(),
        tell=TOLD.append,
        folder=Path(),
        shared=[Shared(file=f"{one.identity}.yaml", setting=one) for one in plan_of(*shared)],
    )
    TOLD.clear()
    tune(tuning)
    return tuning, [name for names, _, _ in judging.calls for name in names]


def plan_of(*names: str) -> list[Setting]:
    """The settings of so many steps."""
    return plan([{"sampler": "unipc", "steps": int(name)} for name in names])[0]
