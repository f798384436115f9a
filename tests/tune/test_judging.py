"""What is judged on the prompts that were not used for tuning, and what is tried after one that missed the bound."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.tune.halves import PROMPTS, TOLD, find, plan_of
from wavespeed_runner.tune.aim import Aim
from wavespeed_runner.tune.bounds import parse_bounds
from wavespeed_runner.tune.budget import Budget
from wavespeed_runner.tune.judge import judge_shared
from wavespeed_runner.tune.result import Result
from wavespeed_runner.tune.sentence import _say_looks, describe_answer, describe_shared, say_missed
from wavespeed_runner.tune.settings import Setting
from wavespeed_runner.tune.shared import Shared


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


def test_what_a_raised_margin_takes_back_is_told() -> None:
    """9 steps keep the bound on the prompts for tuning too: they are among what is asked to do more."""
    tuning, judged = find("ssim>=0.979", 1.5, shared=["9"])
    assert judged == ["8", "12"], "9 is not known to be better here, and was not measured"
    assert any(line.startswith("these prompts are harder: ssim>=0.98") for line in TOLD), TOLD
    ((file, name, fate),) = describe_shared(tuning)
    assert (file, name) == ("9.yaml", "sampler=unipc steps=9") and fate
    tuning.shared = [Shared(file="", setting=one) for one in plan_of("4", "16", "24")]
    run = tuning.tuning.run
    run(plan_of("4", "16"), 8)
    fates = [fate for _, _, fate in describe_shared(tuning)]
    assert fates[0].startswith("dropped, since its figures miss ssim>=0.979: on 8 prompts 10.00 times as fast ")
    assert fates[1].startswith("dropped, since it is slower than the answer: on 8 prompts 2.50 times as fast ")
    assert fates[2] == "not tried"


def test_a_shared_setting_that_was_taken_back_is_judged_with_the_looks_that_are_left() -> None:
    """Somebody has found it to do; of the prompts for judging only 8 steps, judged first, make more of a loss."""
    tuning, judged = find("ssim>=0.979", 1.5)
    assert judged == ["8", "12"] and tuning.look == 2
    tuning.taken_back = {
        one.setting.identity: one for one in tuning.tuning.run(plan_of("10", "11", "13"), PROMPTS) if one
    }
    tuning.shared = [Shared(file=f"{one.identity}.yaml", setting=one) for one in plan_of("10", "11", "13")]
    judge_shared(tuning)
    judged = [name for names, _, _ in tuning.judging.calls for name in names]  # type: ignore[attr-defined]
    assert judged == ["8", "12", "10", "11"], "13 steps are slower than the answer; four looks are made at most"
    assert tuning.looks == 4 and tuning.look == 2 and tuning.answer and tuning.answer.setting.identity == "12"
    said = {file: fate for file, _, fate in describe_shared(tuning)}
    assert said["10.yaml"].startswith("judged, and not known to keep ssim>=0.979 there: SSIM 0.976")
    assert said["13.yaml"].startswith("not judged: it keeps ssim>=0.979 on the prompts for tuning, by less than ")


def test_a_faster_shared_setting_that_does_becomes_the_answer() -> None:
    tuning, _ = find("ssim>=0.979", 1.5, easy=["10"])
    (ten,) = tuning.tuning.run(plan_of("10"), PROMPTS)
    assert ten
    tuning.taken_back, tuning.shared = {"10": ten}, [Shared(file="10.yaml", setting=ten.setting)]
    judge_shared(tuning)
    assert tuning.answer and tuning.answer.setting.identity == "10" and tuning.look == 3
    assert "the third setting that they have judged" in _say_looks(tuning)
    assert "faster than the answer so far, from 10.yaml: sampler=unipc steps=10" in TOLD
    assert describe_shared(tuning) == [("10.yaml", "sampler=unipc steps=10", "the answer")]


TIGHTER = "these prompts are harder: "
TAKEN = "; taken back, since they keep it by less: sampler=unipc steps=9, sampler=unipc steps=10"


def test_a_faster_shared_setting_that_a_tuning_has_taken_back_becomes_its_answer() -> None:
    """8, 9 and 10 steps do; 8 miss on the other prompts, so 9 and 10 are taken back, and 12 is the answer, until 9."""
    tuning, judged = find("ssim>=0.979", 1.5, shared=["9", "12"], easy=["9"], alone=["9", "10"])
    assert judged == ["8", "12", "9"] and tuning.answer and tuning.tuned
    assert [line[: len(TIGHTER)] for line in TOLD if line.endswith(TAKEN)] == [TIGHTER], TOLD
    assert (tuning.answer.setting.identity, tuning.tuned.setting.identity, tuning.look) == ("9", "9", 3)
    assert list(tuning.taken_back) == ["10"], "nobody has shared it"
    assert [one.setting.identity for one in tuning.kept] == ["12", "9"]
    assert {file: fate for file, _, fate in describe_shared(tuning)} == {
        "9.yaml": "the answer",
        "12.yaml": "judged and kept, but slower than the answer",
    }
    assert not tuning.ablation, "it was that of 12 steps"


def test_a_miss_after_there_is_an_answer_takes_nothing_back() -> None:
    """At the third look more confidence is needed, by which even the answer would lose too much."""
    tuning, judged = find("ssim>=0.979", 1.5, shared=["9"], alone=["9", "10"])
    assert judged == ["8", "12", "9"] and tuning.answer and tuning.answer.setting.identity == "12"
    assert list(tuning.taken_back) == ["10"] and tuning.ablation
    assert [one.setting.identity for one in tuning.missed] == ["8", "9"]
    assert sum(line.startswith(TIGHTER) for line in TOLD) == 1, TOLD


def test_a_shared_setting_that_proves_slower_when_judged_does_not_replace_the_answer() -> None:
    tuning, _ = find("ssim>=0.979", 1.5, easy=["10"])
    (ten,) = tuning.tuning.run(plan_of("10"), PROMPTS)
    assert ten
    tuning.taken_back, tuning.shared = {"10": ten}, [Shared(file="10.yaml", setting=ten.setting)]
    tuning.judging.times["10"] = 0.5  # type: ignore[attr-defined]
    judge_shared(tuning)
    assert tuning.answer and tuning.answer.setting.identity == "12" and tuning.look == 2 and tuning.looks == 3
    assert [fate for _, _, fate in describe_shared(tuning)] == ["judged and kept, but slower than the answer"]


class UntilJudged(Budget):
    """Is used up once something was judged."""

    def is_over(self, jobs: int) -> bool:
        return any(line.startswith("judging on ") for line in TOLD)


def test_options_of_a_setting_that_missed_are_not_those_of_an_answer_without_time_for_its_own() -> None:
    tuning, judged = find("ssim>=0.979", 1.5, alone=["12"], budget=UntilJudged())
    assert judged == ["8", "12"] and tuning.answer and not tuning.ablation, "the options of 8 steps were tried"


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
    assert say_missed(aim, near, 0.95) == "it takes 120 ms an image"


def test_what_is_missed_is_told_by_the_limit_that_was_used() -> None:
    """Not the end of the 95 % interval, which is that of a one-sided 97.5 %."""
    aim = Aim(bounds=parse_bounds("ssim>=0.95", ("ssim",)))
    result = judge({"ssim": [0.93, 0.99] * 16})
    limits = {share: aim.bounds[0].find_limit(result.values["ssim"], share) for share in (0.95, 0.975, 0.995)}
    assert limits[0.975] < 0.95 < limits[0.95] and not say_missed(aim, result, 0.95)
    said = say_missed(aim, result, 0.995)
    shown, by = re.fullmatch(  # type: ignore[union-attr]
        r"its one-sided 99.5 % confidence limit, ([\d.]+), misses ssim>=0.95 by ([\d.]+)", said
    ).groups()
    assert float(shown) == pytest.approx(limits[0.995], abs=5e-5) and float(by) == pytest.approx(0.95 - float(shown))


def test_limits_of_shares_quantiles_and_the_worst_are_told_in_their_own_words() -> None:
    forked = judge({"ssim": [0.98] * 31 + [0.5], "forks": [0.0] * 31 + [1.0]})
    bounds = parse_bounds("forks<=5%, p10(ssim)>=0.97, worst(ssim)>=0.9", ("ssim",))
    forks, tail, worst = (say_missed(Aim(bounds=[one]), forked, 0.95) for one in bounds)
    assert forks == "its one-sided 95 % confidence limit, 13.98 %, misses forks<=5% by 8.98 %"
    assert worst == "its worst image, 0.5, misses worst(ssim)>=0.9 by 0.4"
    assert tail == "its one-sided 95 % confidence limit, 0.5, misses p10(ssim)>=0.97 by 0.47"
    few = replace(judge({"ssim": [0.98] * 8}), prompts=8)
    assert "limit of p10(ssim) is not known from 8 prompts" in say_missed(Aim(bounds=[bounds[1]]), few, 0.95)
    near = Aim(bounds=parse_bounds("ssim>=0.98", ("ssim",)))
    assert "limit, 0.97999, misses ssim>=0.98 by 1e-05" in say_missed(near, judge({"ssim": [0.97999] * 32}), 0.95)


def test_what_missed_on_the_prompts_for_judging_is_told_by_the_confidence_of_its_look() -> None:
    tuning, judged = find("ssim>=0.979", 12.0)
    assert judged == ["8"] and tuning.confidences == {"8": 0.975}
    assert "prompts of those for judging; its one-sided 97.5 % confidence limit, 0.7" in describe_answer(tuning)
    tuning.missed.clear()
    tuning.nearest = tuning.tuning.results[0]
    assert "on 8 prompts for tuning; " in describe_answer(tuning)
