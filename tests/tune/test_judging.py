"""What is judged on the prompts that were not used for tuning, and what is tried after one that missed the bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tune.simulated import Simulated
from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.bounds import parse_bounds
from wavespeed_runner.tune.rounds import Result
from wavespeed_runner.tune.sentence import _say_missed
from wavespeed_runner.tune.settings import Setting
from wavespeed_runner.tune.space import read_space
from wavespeed_runner.tune.tune import Budget, Tuning, tune

STEPS, PROMPTS = 40, 32
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


def find(quality: str, times_as_hard: float) -> tuple[Tuning, list[str]]:
    """A tuning whose other prompts are so many times as hard, and what was judged on them."""
    judging = WithPrompts(times_as_hard)
    tuning = Tuning(
        plan=None,  # type: ignore[arg-type]
        planner=plan,
        space=read_space("quick", None, STEPS),
        aim=Aim(bounds=parse_bounds(quality, ("ssim",))),
        tuning=WithPrompts(1.0),  # type: ignore[arg-type]
        judging=judging,  # type: ignore[arg-type]
        seed=0,
        budget=Budget(),
        tell=lambda line: None,
        folder=Path(),
    )
    tune(tuning)
    return tuning, [name for names, _, _ in judging.calls for name in names]


def test_what_keeps_the_bound_on_both_halves_is_judged_once() -> None:
    tuning, judged = find("ssim>=0.979", 1.0)
    assert judged == ["8"] and tuning.answer and tuning.looks == 1


def test_after_a_miss_as_much_less_may_be_lost_as_these_prompts_are_harder() -> None:
    """Other prompts lose 1.5 times as much: 8 steps miss the bound, and so would 9, 10 and 11: 12 are judged next."""
    tuning, judged = find("ssim>=0.979", 1.5)
    assert judged == ["8", "12"] and tuning.answer and tuning.answer.setting.identity == "12"


def test_what_missed_is_not_judged_again_and_nothing_is_answered_where_all_miss() -> None:
    """They are twelve times as hard. A tenth of the allowed loss, the least that is asked for, is out of reach."""
    tuning, judged = find("ssim>=0.979", 12.0)
    assert judged == ["8"] and tuning.answer is None and tuning.nearest and tuning.nearest.setting.identity == "8"


def judge(values: dict[str, list[float]]) -> Any:
    """A result with these values of each metric, one a prompt."""
    by_prompt = {name: {str(place): [value] for place, value in enumerate(many)} for name, many in values.items()}
    one = Setting(point={}, identity="x", work=1.0)
    return Result(setting=one, prompts=32, values=by_prompt, seconds=1.0, relative=0.5, folder=Path())


def test_a_bound_that_was_kept_stays_and_one_on_forks_stays_within_reach() -> None:
    """Of 32 prompts without a fork the limit is 8.9 %: a tighter bound than that could never be shown."""
    aim = Aim(bounds=parse_bounds("ssim>=0.97, forks<=10%", ("ssim",)))
    tuned = judge({"ssim": [0.98] * 32, "forks": [0.0] * 32})
    missed_ssim = judge({"ssim": [0.96] * 32, "forks": [0.0] * 32})
    ssim, forks = aim.tighten(tuned, missed_ssim, 0.95, 0.1).bounds
    assert ssim.value == pytest.approx(1 - 0.03 * (0.02 / 0.04)) and forks == aim.bounds[1]
    forked = judge({"ssim": [0.98] * 32, "forks": [1.0] * 6 + [0.0] * 26})
    ssim, forks = aim.tighten(tuned, forked, 0.95, 0.1).bounds
    limit = forks.find_limit({str(place): [0.0] for place in range(32)})
    assert ssim == aim.bounds[0] and forks.value == pytest.approx(limit) and limit < 0.1


def test_what_is_nearest_counts_the_time_too() -> None:
    aim = Aim(bounds=parse_bounds("ssim>=0.97", ("ssim",)), seconds=0.1)
    slow, near = judge({"ssim": [0.99] * 32}), replace(judge({"ssim": [0.98] * 32}), seconds=0.12)
    assert aim.find_excess(near) == pytest.approx(1.2) and aim.find_excess(slow) == pytest.approx(10.0)
    assert "it takes 0.12 s" in _say_missed(aim, near) and "miss" not in _say_missed(aim, near)
