"""What a budget that is used up leaves: an answer, wherever something was seen that keeps the bounds by much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.tune.halves import TOLD, find
from tests.tune.simulated import PROMPTS, Simulated, ladders_of, search_of
from wavespeed_runner.tune.budget import Budget
from wavespeed_runner.tune.conclude import CONFIRMED, Conclusion
from wavespeed_runner.tune.judge import JUDGED, judge
from wavespeed_runner.tune.result import Result
from wavespeed_runner.tune.search import Search
from wavespeed_runner.tune.tuning import Tuning

TIMES = {f"{name} 0": share for name, share in zip("abcdefg", (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), strict=True)}
"""Settings from fast to slow."""
Quality = Callable[[str, int], float]


def conclude(
    quality: str,
    seen_on: dict[int, Sequence[str]],
    of: Quality,
    of_others: Quality | None = None,
    seconds: float | None = None,
    slow: float = 1.0,
    times: dict[str, float] = TIMES,
) -> tuple[Tuning, Search, list[str]]:
    """A tuning whose budget ended after some settings were scouted, and what it has told.

    Args:
        quality: the bounds.
        seen_on: number of prompts -> identities of the settings that were tried on so many.
        of: (identity, place of the prompt) -> SSIM, of the prompts for tuning.
        of_others: the same of those for judging; None: as `of`.
        seconds: the limit of time; the reference takes ten.
        slow: so many times as long a setting takes once it is confirmed.
        times: identity -> share of the reference's time.
    """
    told: list[str] = []
    rounds, judging = Simulated(times=times, quality=of), Simulated(times=times, quality=of_others or of)
    search = search_of(rounds, quality, seconds)
    ladders = ladders_of({name[0]: [share] for name, share in times.items()})
    for prompts, names in seen_on.items():
        rounds.run([one.settings[0] for one in ladders if one.settings[0].identity in names], prompts)
    rounds.times = {name: slow * share for name, share in times.items()}
    search.is_over = lambda: True
    for half in (rounds, judging):
        half.prompts = [str(place) for place in range(PROMPTS[-1])]  # type: ignore[attr-defined]
    made: dict[str, Any] = dict.fromkeys(("plan", "planner"), None)
    made |= {"space": SimpleNamespace(name="small"), "aim": search.aim, "tuning": rounds, "judging": judging}
    made |= {"seed": 0, "budget": Budget(spent="budget=9jobs is used up"), "tell": told.append, "folder": Path()}
    tuning = Tuning(**made)
    rounds.calls.clear()
    conclusion = Conclusion(tuning=tuning, search=search)
    while tuning.looks < JUDGED and (best := conclusion.choose()):
        if judge(tuning, search, best):
            break
    return tuning, search, told


def names_of(half: Any) -> list[str]:
    return [name for names, _, _ in half.calls for name in names]


def rising(name: str, place: int) -> float:
    """The slower, the better: of `a` to `g` .94, .95, .96, .97, .98, .99, .999, and prompts differ a little."""
    return min(0.94 + 0.01 * "abcdefg".index(name[0]), 0.999) + 0.0004 * (place % 3 - 1)


def test_the_fastest_that_keeps_the_bound_on_a_few_prompts_is_confirmed_and_judged() -> None:
    tuning, _, told = conclude("ssim>=0.965", {8: ["c 0", "d 0", "f 0"], 16: ["e 0"]}, rising)
    assert names_of(tuning.tuning) == ["d 0"] == names_of(tuning.judging)
    assert tuning.answer and tuning.answer.setting.identity == "d 0" and tuning.answer.prompts == PROMPTS[-1]
    assert told[:2] == [
        "budget=9jobs is used up: what keeps ssim>=0.965 so far is confirmed and judged, in at most 8 jobs more",
        "confirming on 32 prompts what was seen on 8: cache=d steps=0",
    ]


def test_what_a_few_prompts_took_for_good_gives_way_to_the_safest() -> None:
    """`d` is good on the first 8 prompts alone; the next in order of speed would be `e`."""

    def lucky(name: str, place: int) -> float:
        return 0.8 if name == "d 0" and place >= 8 else rising(name, place)

    tuning, search, _ = conclude("ssim>=0.965", {8: ["d 0", "e 0", "f 0", "g 0"]}, lucky)
    assert names_of(tuning.tuning) == ["d 0", "g 0"] and names_of(tuning.judging) == ["g 0"]
    assert tuning.answer and tuning.answer.setting.identity == "g 0" and "d 0" in search.rejected


def test_what_misses_on_the_prompts_for_judging_gives_way_to_the_safest() -> None:
    def harder(name: str, place: int) -> float:
        return 1 - 3 * (1 - rising(name, place))

    tuning, _, _ = conclude("ssim>=0.965", {8: ["d 0", "e 0", "f 0", "g 0"]}, rising, harder)
    assert names_of(tuning.judging) == ["d 0", "g 0"]
    assert tuning.answer and tuning.answer.setting.identity == "g 0" and tuning.look == 2


def test_what_is_known_on_all_prompts_needs_no_job_to_be_confirmed() -> None:
    tuning, _, _ = conclude("ssim>=0.965", {32: ["d 0"]}, rising)
    assert names_of(tuning.tuning) == [] and names_of(tuning.judging) == ["d 0"] and tuning.answer


def test_the_jobs_beyond_the_budget_are_bounded() -> None:
    """Nothing keeps the bound where it is confirmed, or nothing where it is judged."""

    def lucky(name: str, place: int) -> float:
        return 0.8 if place >= 8 else rising(name, place)

    seen = {8: list(TIMES)}
    tuning, _, _ = conclude("ssim>=0.9", seen, lucky)
    assert len(names_of(tuning.tuning)) == CONFIRMED and not names_of(tuning.judging) and tuning.answer is None
    tuning, _, _ = conclude("ssim>=0.9", seen, rising, lambda name, place: 0.5)
    assert len(names_of(tuning.tuning)) <= CONFIRMED and len(names_of(tuning.judging)) == JUDGED
    assert len(set(names_of(tuning.judging))) == JUDGED, "none of them twice"


def test_what_misses_the_bound_or_is_no_faster_than_the_reference_is_not_tried() -> None:
    tuning, _, _ = conclude("ssim>=0.985", {8: ["a 0", "d 0", "e 0"]}, rising)
    assert names_of(tuning.tuning) == [] == names_of(tuning.judging) and tuning.answer is None
    tuning, _, _ = conclude("ssim>=0.995", {8: ["g 0"]}, rising, times=TIMES | {"g 0": 1.02})
    assert names_of(tuning.tuning) == [] and tuning.answer is None


def test_a_bound_that_few_prompts_cannot_show_is_tried_where_the_figures_keep_it() -> None:
    """Of 8 prompts without a fork the limit is 31 %: what takes the most time is the safest."""
    tuning, _, _ = conclude("forks<=15%", {8: ["d 0", "f 0", "e 0"]}, rising)
    assert names_of(tuning.tuning) == ["f 0"] and tuning.answer and tuning.answer.setting.identity == "f 0"


def test_within_a_time_the_best_is_tried_and_then_something_with_room() -> None:
    """It takes a tenth longer on more prompts: `e` needs 5.5 s of 5.2; of what takes 0.8 of these, `d` is the best."""
    tuning, _, _ = conclude("", {8: ["a 0", "c 0", "d 0", "e 0", "f 0"]}, rising, seconds=5.2, slow=1.1)
    assert names_of(tuning.tuning) == ["e 0", "d 0"] and names_of(tuning.judging) == ["d 0"]
    assert tuning.answer and tuning.answer.setting.identity == "d 0"


def test_what_was_taken_back_is_judged_where_nothing_else_is_left() -> None:
    """Both are known to keep the bound. The other prompts are so hard that what is asked for then is out of reach."""

    def harder(name: str, place: int) -> float:
        return 0.5 if name == "d 0" else rising(name, place)

    tuning, search, _ = conclude("ssim>=0.965", {32: ["d 0", "e 0"]}, rising, harder)
    assert names_of(tuning.judging) == ["d 0", "e 0"] and not tuning.taken_back
    assert tuning.answer and tuning.answer.setting.identity == "e 0" and search.aim != tuning.aim


@pytest.mark.parametrize("over", [False, True])
def test_a_search_with_budget_left_is_judged_as_before(over: bool) -> None:
    """What was seen on a few prompts is nothing to judge as long as the search can confirm it."""
    rounds = Simulated(times=TIMES, quality=rising)
    search = search_of(rounds, "ssim>=0.965")
    rounds.run([one.settings[0] for one in ladders_of({"d": [0.4]})], 8)
    search.is_over = lambda: over
    told: list[str] = []
    tuning = SimpleNamespace(aim=search.aim, tuning=rounds, looks=0, budget=Budget(), tell=told.append, taken_back={})
    chosen: Result | None = Conclusion(tuning=tuning, search=search).choose()  # type: ignore[arg-type]
    assert (chosen is not None) is over is bool(told)


class UntilScouted(Budget):
    """Is used up after the first round."""

    def is_over(self, jobs: int) -> bool:
        self.spent = "the budget is used up" if any(line.startswith("scouting ") for line in TOLD) else ""
        return bool(self.spent)


def test_a_budget_that_ends_while_settings_are_scouted_leaves_an_answer() -> None:
    """The middle of the ladder is all that was seen; it keeps the bound by much."""
    tuning, judged = find("ssim>=0.95", 1.0, budget=UntilScouted())
    seen = {one.setting.identity for one in tuning.tuning.results if one.prompts < PROMPTS[-1]}
    assert len(judged) == 1 and set(judged) <= seen and tuning.answer and not tuning.ablation
    assert [len(names) for names, prompts, _ in tuning.tuning.calls if prompts == PROMPTS[-1]] == [1]  # type: ignore[attr-defined]
