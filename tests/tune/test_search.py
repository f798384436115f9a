"""The search, on spaces of which the answer is known: against trying everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.simulated import PROMPTS, Simulated, ladders_of, search_of
from wavespeed_runner.tune.search import SAME_TIME

TIMES = {"a": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "b": [0.15, 0.25, 0.35, 0.45, 0.55], "c": [0.05, 0.5, 0.9]}


def identities(times: dict[str, list[float]]) -> dict[str, float]:
    return {f"{name} {number}": time for name, many in times.items() for number, time in enumerate(many)}


def spread(place: int) -> float:
    """What makes prompts differ; its mean is 0 over every eight of them."""
    return 0.004 * ((place % 8) - 3.5) / 3.5


def run(
    times: dict[str, list[float]], means: dict[str, float], quality: str, foreseen: bool = True
) -> tuple[object, ...]:
    rounds = Simulated(times=identities(times), quality=lambda one, place: means[one] + spread(place))
    search = search_of(rounds, quality)
    search.scout(ladders_of(times, foreseen=foreseen))
    search.confirm()
    return search, rounds


@pytest.mark.parametrize("foreseen", [True, False])
def test_the_fastest_setting_that_keeps_the_bound_is_found_without_trying_all(foreseen: bool) -> None:
    means = {"a 0": 0.8, "a 1": 0.9, "a 2": 0.96, "a 3": 0.98, "a 4": 0.985, "a 5": 0.99}
    means |= {"b 0": 0.9, "b 1": 0.975, "b 2": 0.98, "b 3": 0.99, "b 4": 0.99, "c 0": 0.5, "c 1": 0.8, "c 2": 0.999}
    search, rounds = run(TIMES, means, "ssim>=0.97", foreseen)
    assert search.best.setting.identity == "b 1" and search.best.prompts == PROMPTS[-1]
    assert rounds.evaluated < 0.5 * len(means) * PROMPTS[-1]


@st.composite
def spaces(draw: st.DrawFn) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Ladders that get slower and better from setting to setting."""
    times, means = {}, {}
    for name in "abcd"[: draw(st.integers(1, 4))]:
        count = draw(st.integers(1, 9))
        times[name] = sorted(draw(st.lists(st.floats(0.02, 0.95), min_size=count, max_size=count, unique=True)))
        values = sorted(draw(st.lists(st.floats(0.5, 0.999), min_size=count, max_size=count)))
        means |= {f"{name} {number}": value for number, value in enumerate(values)}
    return times, means


@settings(max_examples=150, deadline=None)
@given(spaces(), st.sampled_from([0.7, 0.9, 0.97]), st.booleans())
def test_on_any_ladders_it_finds_what_trying_everything_finds(
    space: tuple[dict[str, list[float]], dict[str, float]], least: float, foreseen: bool
) -> None:
    times, means = space
    search, _ = run(times, means, f"ssim>={least}", foreseen)
    whole = [search.rounds._result(one, PROMPTS[-1]) for ladder in ladders_of(times) for one in ladder.settings]
    does = [result for result in whole if search.aim.is_met(result)]
    if not does:
        assert search.best is None
        return
    fastest = min(result.relative for result in does)
    assert search.best is not None and search.aim.is_met(search.best)
    assert search.best.relative <= fastest * SAME_TIME + 1e-12


def test_a_bound_is_kept_by_the_confidence_limit_not_by_the_figure() -> None:
    """Means of 0.972 on prompts that vary by 0.05: what is known of them is less."""
    times = {"a": [0.1, 0.5]}
    wide = {"a 0": 0.972, "a 1": 0.999}
    rounds = Simulated(
        times=identities(times), quality=lambda one, place: wide[one] + (0.05 * (-1) ** place if one == "a 0" else 0)
    )
    search = search_of(rounds, "ssim>=0.97")
    search.scout(ladders_of(times))
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "a 1"


def test_a_hopeless_setting_is_not_tried_on_more_prompts() -> None:
    means = {"a 0": 0.5, "a 1": 0.6, "a 2": 0.7, "b 0": 0.99}
    search, rounds = run({"a": [0.1, 0.2, 0.3], "b": [0.35]}, means, "ssim>=0.97")
    assert search.best.setting.identity == "b 0"
    assert all(prompts == PROMPTS[0] for names, prompts, _ in rounds.calls if any(name[0] == "a" for name in names))


def test_of_settings_that_are_as_fast_the_one_that_keeps_the_bound_by_most() -> None:
    means = {"a 0": 0.975, "b 0": 0.99}
    search, _ = run({"a": [0.300], "b": [0.305]}, means, "ssim>=0.96")
    assert search.best.setting.identity == "b 0"


def test_close_ones_are_timed_again_beside_the_reference() -> None:
    _, rounds = run({"a": [0.30], "b": [0.32], "c": [0.9]}, {"a 0": 0.99, "b 0": 0.99, "c 0": 0.99}, "ssim>=0.96")
    names, prompts, more = rounds.calls[-1]
    assert names == ["a 0", "b 0"] and prompts == PROMPTS[0] and more == ("measure.in_turn=true",)


def test_times_that_were_not_taken_beside_the_reference_do_not_decide() -> None:
    """`a 0` seems to be the fastest; of those that are about as fast only times beside the reference are compared."""
    times = {"a": [0.30], "b": [0.32], "c": [0.42]}
    rounds = Simulated(times=identities(times), quality=lambda one, place: 0.99)
    search = search_of(rounds, "ssim>=0.96")
    search.scout(ladders_of(times))
    true = {"a 0": 0.55, "b 0": 0.5, "c 0": 0.41}
    run_once = rounds.run

    def run(settings: Any, prompts: int, more: Any = ()) -> Any:
        rounds.times = true if more else identities(times)
        return run_once(settings, prompts, more)

    rounds.run = run  # type: ignore[method-assign]
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "c 0" and search.best.relative == 0.41


def test_a_rejected_answer_gives_way_to_the_next_one() -> None:
    means = {"a 0": 0.98, "a 1": 0.985, "b 0": 0.99}
    search, _ = run({"a": [0.2, 0.3], "b": [0.5]}, means, "ssim>=0.97")
    found = []
    while search.best:
        found.append(search.best.setting.identity)
        search.reject(found[-1])
        search.confirm()
    assert found == ["a 0", "a 1", "b 0"]


def test_settings_of_one_ladder_are_rejected_one_after_another() -> None:
    """`a 0` seems not to do on the first prompts, so `a 1` is found before it, and both are known to do."""
    times = {"a": [0.300, 0.305, 0.6]}
    rounds = Simulated(
        times=identities(times),
        quality=lambda one, place: 0.95 + 0.04 * (-1) ** place if one == "a 0" and place < 8 else 0.99,
    )
    search = search_of(rounds, "ssim>=0.96")
    search.scout(ladders_of(times))
    search.confirm()
    assert {result.setting.identity for _, result in search.found} == {"a 0", "a 1"}
    found = []
    while search.best:
        found.append(search.best.setting.identity)
        search.reject(found[-1])
        search.confirm()
    assert found == ["a 1", "a 0", "a 2"]


def test_a_setting_of_two_ladders_is_rejected_once() -> None:
    times = {"a": [0.2, 0.3]}
    rounds = Simulated(times=identities(times), quality=lambda one, place: 0.99)
    search = search_of(rounds, "ssim>=0.97")
    search.scout([*ladders_of(times), *ladders_of(times)])
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "a 0"
    search.reject("a 0")
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "a 1"
    search.reject("a 1")
    search.confirm()
    assert search.best is None


def test_a_bound_and_a_time_together() -> None:
    """Only two places keep both; what keeps the bound alone is no answer, and is no reason to look at slower ones."""
    times = {"a": [0.05 * (place + 1) for place in range(10)]}
    means = {f"a {place}": 0.9 + 0.01 * place for place in range(10)}
    rounds = Simulated(times=identities(times), quality=lambda one, place: means[one])
    search = search_of(rounds, "ssim>=0.915", seconds=2.0)  # a reference takes ten
    search.scout(ladders_of(times))
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "a 2"
    search = search_of(rounds, "ssim>=0.955", seconds=2.0)
    search.scout(ladders_of(times))
    search.confirm()
    assert search.best is None


def test_what_proves_too_slow_gives_way_to_something_faster() -> None:
    times = {"a": [0.1, 0.2, 0.29, 0.4], "b": [0.15, 0.28]}
    rounds = Simulated(times=identities(times), quality=lambda one, place: 0.5 + identities(times)[one])
    search = search_of(rounds, seconds=3.0)
    search.scout(ladders_of(times, for_speed=False))
    run_once = rounds.run

    def run_slower(settings: Any, prompts: int, more: Any = ()) -> Any:
        rounds.times = {one: time * (1.3 if more else 1) for one, time in identities(times).items()}
        return run_once(settings, prompts, more)

    rounds.run = run_slower  # type: ignore[method-assign]
    search.confirm()
    assert search.best is not None and search.best.relative * 10 <= 3.0


def test_a_ladder_whose_middle_is_far_is_looked_at_where_it_is_near() -> None:
    times = {"quick": [0.1, 0.2, 0.3], "long": [0.15, 0.5, 0.6, 0.7, 0.8, 0.9]}
    means = {"quick 0": 0.5, "quick 1": 0.99, "quick 2": 0.99} | {f"long {place}": 0.99 for place in range(6)}
    rounds = Simulated(times=identities(times), quality=lambda one, place: means[one])
    search = search_of(rounds, "ssim>=0.97")
    for one in ladders_of(times):
        search.scout([one])
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "long 0"


def test_what_cannot_be_run_does_not_end_the_search() -> None:
    times = {"a": [0.1, 0.2], "b": [0.3]}
    rounds = Simulated(times=identities(times), quality=lambda one, place: 0.99, broken={"a 0", "a 1"})
    search = search_of(rounds, "ssim>=0.97")
    search.scout(ladders_of(times))
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "b 0"


def test_the_best_within_a_time() -> None:
    times = {"a": [0.1, 0.2, 0.3, 0.4], "b": [0.15, 0.29, 0.5]}
    means = {"a 0": 0.8, "a 1": 0.9, "a 2": 0.95, "a 3": 0.99, "b 0": 0.9, "b 1": 0.97, "b 2": 0.999}
    rounds = Simulated(times=identities(times), quality=lambda one, place: means[one] + spread(place))
    search = search_of(rounds, seconds=3.0)  # a reference takes ten
    search.scout(ladders_of(times, for_speed=False))
    search.confirm()
    assert search.best is not None and search.best.setting.identity == "b 1"


def test_the_budget_ends_it() -> None:
    rounds = Simulated(times=identities(TIMES), quality=lambda one, place: 0.99)
    search = search_of(rounds, "ssim>=0.97")
    search.is_over = lambda: len(rounds.calls) >= 1
    search.scout(ladders_of(TIMES))
    search.confirm()
    assert len(rounds.calls) == 1 and search.best is None, "what was found is confirmed by `conclude`"


def test_the_same_search_makes_the_same_rounds() -> None:
    means = {one: 0.9 + 0.1 * time for one, time in identities(TIMES).items()}
    calls = [run(TIMES, means, "ssim>=0.93")[1].calls for _ in range(2)]
    assert calls[0] == calls[1]


def test_what_is_measured_for_an_option_is_told_by_what_it_is_for() -> None:
    """Quality on all prompts and times on a few are two lines of the same setting with other figures."""
    rounds = Simulated(times={"a 0": 0.5}, quality=lambda one, place: 0.99)
    search = search_of(rounds, "ssim>=0.9")
    told: list[str] = []
    search.tell = told.append
    (ladder,) = ladders_of({"a": [0.5]})
    search.measure(ladder.settings)
    assert told == [
        "quality of 1 setting on 32 prompts",
        "timing 1 setting on 8 prompts, each image beside its reference",
    ]
