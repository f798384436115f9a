"""Options are taken away one at a time; what gives nothing falls out."""

from __future__ import annotations

from typing import Any

from tests.tune.simulated import Simulated
from wavespeed_runner.tune.ablation import ablate, list_options, remove_option
from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.bounds import parse_bounds
from wavespeed_runner.tune.settings import Cut, Point, Setting

WORK = {"sampler sampler.shift steps": 0.2, "sampler steps": 0.2}
"""What is foreseen of some points."""
AIM = Aim(bounds=parse_bounds("ssim>=0.9", ("ssim",)))


def plan(points: list[Point]) -> tuple[list[Setting], list[Cut]]:
    (point,) = points
    if not point:
        return [], []
    if point == {"b": "needs a"}:
        return [], [Cut(name="", reason="a rule says no")]
    return [Setting(point=point, identity=name(point), work=WORK.get(name(point)))], []


def name(point: Point) -> str:
    return " ".join(sorted(point))


def run(best: Point, times: dict[str, float], quality: dict[str, float], *rejected: str) -> tuple[Any, Any]:
    rounds = Simulated(times=times, quality=lambda one, place: quality[one])
    (first,) = rounds.run(plan([best])[0], 8)
    assert first
    return ablate(first, AIM, plan, lambda settings: rounds.run(settings, 8), rejected)  # type: ignore[arg-type]


def test_an_option_that_gives_nothing_falls_out() -> None:
    times = {"compile sampler steps": 0.2, "sampler steps": 0.201, "steps": 0.2, "sampler": 0.9}
    quality = {"compile sampler steps": 0.95, "sampler steps": 0.96, "steps": 0.5, "sampler": 0.99}
    best, rows = run({"sampler": "unipc", "steps": 6, "compile": "regional"}, times, quality)
    assert best.setting.identity == "sampler steps"
    assert {row.without: row.dropped for row in rows} == {
        "compile=regional": True,
        "sampler=unipc": False,
        "steps=6": False,
    }


def test_between_as_many_plain_steps_a_difference_in_time_is_noise() -> None:
    times = {"sampler sampler.shift steps": 0.2, "sampler steps": 0.25, "steps": 0.2, "sampler": 0.9}
    quality = {"sampler sampler.shift steps": 0.95, "sampler steps": 0.96, "steps": 0.5, "sampler": 0.99}
    best, _ = run({"sampler": "unipc", "sampler.shift": 2.0, "steps": 6}, times, quality)
    assert best.setting.identity == "sampler steps"


def test_what_is_slower_or_misses_the_bound_without_it_stays() -> None:
    times = {"a b": 0.2, "a": 0.3, "b": 0.1}
    best, rows = run({"a": 1, "b": 2}, times, {"a b": 0.95, "a": 0.99, "b": 0.6})
    assert best.setting.identity == "a b" and not any(row.dropped for row in rows)
    assert all(row.result for row in rows)


def test_the_reference_and_refused_rests_are_said() -> None:
    _, rows = run({"a": 1}, {"a": 0.2}, {"a": 0.95})
    assert rows[0].result is None and rows[0].refused == "the reference itself, or only what was typed, is left"
    _, rows = run({"a": 1, "b": "needs a"}, {"a b": 0.2, "a": 0.5}, {"a b": 0.95, "a": 0.99})
    assert [row.refused for row in rows] == ["a rule says no", ""]


def test_what_belongs_to_an_option_goes_with_it() -> None:
    point = {"cache": "fbcache", "cache.residual_diff_threshold": 0.1, "cache/predictor": "taylor", "caches": 1}
    assert remove_option(point, "cache") == {"caches": 1}
    assert remove_option(point, "cache/predictor") == {k: v for k, v in point.items() if k != "cache/predictor"}
    assert list_options(point)[-2:] == ["cache", "caches"]


def test_an_option_without_which_the_other_prompts_were_missed_stays_and_so_is_it_told() -> None:
    times = {"a b c": 0.2, "a b": 0.2, "a c": 0.2, "b c": 0.3}
    quality = dict.fromkeys(times, 0.95)
    best, rows = run({"a": 1, "b": 2, "c": 3}, times, quality, "a c")
    assert best.setting.identity == "a b"
    assert {row.without: row.dropped for row in rows} == {"a=1": False, "b=2": False, "c=3": True}
