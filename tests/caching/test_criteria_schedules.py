"""Schedules: published examples, exact counts for every number of steps, and refusals that name their key."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.criteria.schedule import choose_steps, explain_misfit, list_scheduled_steps
from wavespeed_runner.caching.criteria.schedules import Budget, Interval, IntervalCriterion, Never, Spacing
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.criteria.thresholds import (
    AccumulatedChange,
    AccumulatedPolynomial,
    MagnitudeRatio,
    PredictedChange,
    RelativeChange,
)
from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.caching.window import list_computed_steps
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import CacheConfig, PartConfig
from wavespeed_runner.errors import ConfigError

OPEN = CacheConfig(name="x")
STEPS = st.integers(1, 200)
FAST = "1111110100010000100000100001"
"""cache-dit's mask `fast`, as it prints it."""


def counted_from_1(options: PartConfig, steps: int, window: CacheConfig = OPEN) -> list[int]:
    found = list_scheduled_steps(options, steps, window)
    assert found is not None
    return found


def around_center(steps: int, count: int, center: int, power: float) -> list[int] | None:
    """DeepCache's formula in numpy, but for last bits that would take -15 for -14; None where it finds no schedule."""
    while power > 1:
        ends = np.array([-center, steps - center], dtype=complex) ** (1 / power)
        x = np.linspace(ends[0], ends[1], count + 1) ** power
        chosen = [0, *(int(v) + center for v in np.unique(np.trunc(np.round(x.real, 9)))[1:-1])]
        if len(chosen) == count:
            return chosen
        power -= 0.02
    return None


@given(STEPS)
def test_never_computes_every_step(steps: int) -> None:
    assert counted_from_1(Never(), steps) == list(range(1, steps + 1))


def test_deepcaches_uniform_schedule() -> None:
    assert counted_from_1(Interval(interval=3), 10) == [1, 4, 7, 10]
    assert counted_from_1(Interval(interval=1), 4) == [1, 2, 3, 4]
    assert counted_from_1(Interval(interval=5), 3) == [1]


def test_taylorseers_schedule_on_flux() -> None:
    """The first 3 of 50 steps, then every sixth: its FLUX script."""
    window = CacheConfig(name="x", warmup_steps=3)
    options = Interval(interval=6, spacing=Spacing.since_computed)
    assert counted_from_1(options, 50, window) == [1, 2, *range(3, 51, 6)]


def test_since_computed_starts_again_at_a_forced_step() -> None:
    window = CacheConfig(name="x", max_consecutive_cache_hits=2)
    assert counted_from_1(Interval(interval=5, spacing=Spacing.since_computed), 10, window) == [1, 4, 7, 10]
    assert counted_from_1(Interval(interval=5), 10, window) == [1, 4, 6, 9]


@given(STEPS, st.integers(1, 12), st.integers(0, 99))
def test_intervals_begin_at_the_windows_start(steps: int, interval: int, start: int) -> None:
    window = CacheConfig(name="x", start=start / 100)
    computed = counted_from_1(Interval(interval=interval, start=start / 100), steps, window)
    first = -(-start * steps // 100)  # the first i with i / steps >= start / 100
    assert computed == [i + 1 for i in range(steps) if i == 0 or i < first or (i - first) % interval == 0]


def test_deepcaches_non_uniform_schedule() -> None:
    """The settings of its Stable Diffusion script: 1:5 of 50 steps, power 1.4, center 15."""
    options = Interval(interval=5, spacing=Spacing.non_uniform, power=1.4, center=15)
    computed = counted_from_1(options, 50)
    assert [step - 1 for step in computed] == around_center(50, 10, 15, 1.4)
    assert computed == [1, 6, 10, 14, 18, 22, 27, 32, 38, 44]


@given(st.integers(10, 120), st.integers(2, 8), st.integers(1, 60), st.sampled_from([1.2, 1.4, 1.5, 2.0]))
def test_the_non_uniform_schedule_is_the_published_formula(
    steps: int, interval: int, center: int, power: float
) -> None:
    options = Interval(interval=interval, spacing=Spacing.non_uniform, power=power, center=center)
    published = around_center(steps, -(-steps // interval), center, power)
    if published is None:
        assert "no " in explain_misfit(options, steps) and "spacing=uniform" in explain_misfit(options, steps)
    else:
        assert sorted(choose_steps(options, steps)) == published


@given(st.sets(st.integers(2, 60)), st.integers(60, 80))
def test_a_list_and_its_mask_are_one_schedule(others: set[int], steps: int) -> None:
    computed = sorted({1} | others)
    mask = "".join("1" if step in computed else "0" for step in range(1, steps + 1))
    assert counted_from_1(Steps(computed=computed), steps) == computed
    assert counted_from_1(Steps(computed=computed, of=steps), steps) == computed
    assert counted_from_1(Steps(mask=mask), steps) == computed


def test_a_published_mask_by_name() -> None:
    by_name = counted_from_1(Steps(mask="cache_dit_fast"), 28)
    assert by_name == counted_from_1(Steps(mask=FAST), 28) and len(by_name) == 11


@pytest.mark.parametrize(
    ("options", "steps", "said"),
    [
        (Steps(mask="cache_dit_fast"), 20, "cache.criterion.mask=cache_dit_fast: made for 28 steps, and 20 are run"),
        (Steps(mask="1101"), 5, "cache.criterion.mask=1101: made for 4 steps, and 5 are run"),
        (Steps(computed=[1, 3], of=10), 9, "cache.criterion.computed=[1, 3]: made for 10 steps, and 9 are run"),
        (Steps(computed=[1, 30]), 28, "cache.criterion.computed=[1, 30]: made for 30 or more steps, and 28 are run"),
        (Steps(), 28, "cache.criterion.computed=null: which steps?"),
        (
            Steps(mask="cache_dit_fats"),
            28,
            "neither zeros and ones nor a published mask (did you mean 'cache_dit_fast'",
        ),
        (Budget(computed=30, share=None), 28, "cache.criterion.computed=30: only 28 steps are run"),
        (Budget(computed=5, share=None, largest_gap=2), 28, "compute 16, or allow a larger gap"),
    ],
)
def test_a_schedule_for_other_steps_is_refused(options: PartConfig, steps: int, said: str) -> None:
    assert said in explain_misfit(options, steps)
    with pytest.raises(ConfigError):
        list_scheduled_steps(options, steps, OPEN)


@pytest.mark.parametrize(
    ("options", "keys", "said"),
    [
        (Interval, {"interval": 0}, "cache.criterion.interval=0: 1 or more"),
        (Interval, {"power": 1.0}, "cache.criterion.power=1.0: must be above 1"),
        (Interval, {"center": -1}, "cache.criterion.center=-1"),
        (Interval, {"center": 20}, "cache.criterion.center=20 cache.criterion.power=1.4: they could not take effect"),
        (Steps, {"computed": []}, "cache.criterion.computed=[]"),
        (Steps, {"computed": [2, 3]}, "cache.criterion.computed=[2, 3]: steps in order, each once, from 1 on"),
        (Steps, {"computed": [1, 3, 3]}, "cache.criterion.computed=[1, 3, 3]"),
        (Steps, {"computed": [1, 3], "mask": "101"}, "only one of the two"),
        (Steps, {"computed": [1, 9], "of": 8}, "cache.criterion.of=8: the list goes on to step 9"),
        (Steps, {"mask": "101", "of": 3}, "cache.criterion.of=3: only with cache.criterion.computed"),
        (Steps, {"mask": "0111"}, "cache.criterion.mask=0111: must begin with 1"),
        (Steps, {"mask": ""}, "cache.criterion.mask=: must begin with 1"),
        (Budget, {"computed": 5}, "cache.criterion.computed=5 cache.criterion.share=0.4: one of the two"),
        (Budget, {"share": None}, "cache.criterion.computed=None cache.criterion.share=None: one of the two"),
        (Budget, {"share": 0.0}, "cache.criterion.share=0.0: above 0"),
        (Budget, {"computed": 0, "share": None}, "cache.criterion.computed=0: 1 step or more"),
        (Budget, {"warmup": 0}, "cache.criterion.warmup=0"),
        (Budget, {"power": 0.5}, "cache.criterion.power=0.5"),
        (Budget, {"largest_gap": 0}, "cache.criterion.largest_gap=0"),
    ],
)
def test_wrong_values_stop_with_their_key(options: type, keys: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        options(**keys)
    assert said in str(caught.value)


@given(STEPS, st.data(), st.integers(1, 12), st.floats(1, 4))
def test_a_budget_is_kept_exactly(steps: int, data: st.DataObject, warmup: int, power: float) -> None:
    count = data.draw(st.integers(1, steps))
    computed = counted_from_1(Budget(computed=count, share=None, warmup=warmup, power=power), steps)
    assert len(computed) == count and computed == sorted(set(computed))
    first = min(warmup, max(count - 1, 1))
    assert computed[:first] == list(range(1, first + 1))
    assert count == 1 or computed[-1] == steps
    gaps = [after - before for before, after in pairwise(computed)]
    assert gaps == sorted(gaps)


@given(st.integers(2, 120), st.data(), st.integers(1, 9))
def test_no_gap_is_larger_than_allowed(steps: int, data: st.DataObject, largest: int) -> None:
    count = data.draw(st.integers(2, steps))
    options = Budget(computed=count, share=None, largest_gap=largest)
    refused = explain_misfit(options, steps)
    if refused:
        assert (count - min(4, count - 1)) * largest < steps - min(4, count - 1)
        enough = int(refused.partition("compute ")[2].partition(",")[0])
        assert count < enough <= steps
        assert explain_misfit(Budget(computed=enough, share=None, largest_gap=largest), steps) == ""
    else:
        computed = sorted(choose_steps(options, steps))
        assert len(computed) == count and max(b - a for a, b in pairwise(computed)) <= largest


@given(STEPS, st.floats(0.001, 1))
def test_a_share_is_rounded(steps: int, share: float) -> None:
    assert len(counted_from_1(Budget(share=share), steps)) == max(1, round(share * steps))


def test_even_gaps_and_growing_ones() -> None:
    assert sorted(choose_steps(Budget(computed=6, share=None, warmup=2, power=1), 18)) == [0, 1, 5, 9, 13, 17]
    assert sorted(choose_steps(Budget(computed=6, share=None, warmup=2, power=2), 18)) == [0, 1, 2, 5, 10, 17]


def test_a_plan_keeps_to_the_window_and_its_limit() -> None:
    """A criterion that always wants to reuse is planned as the window's own published answer."""
    window = CacheConfig(name="x", start=0.2, end=0.8, max_consecutive_cache_hits=5)
    always = MagnitudeRatio(threshold=1e9, ratios=[1.5])
    assert list_scheduled_steps(always, 30, window) == list_computed_steps(window, 30)
    assert list_scheduled_steps(Steps(computed=[1]), 30, window) == list_computed_steps(window, 30)


def test_what_watches_something_cannot_be_planned() -> None:
    assert (
        list_scheduled_steps(RelativeChange(), 30, OPEN) is None
        and explain_misfit(RelativeChange(), 30) == explain_misfit(None, 30) == ""
    )


def test_a_schedule_has_no_level_and_asks_for_no_numbers() -> None:
    criterion = IntervalCriterion(Interval(interval=2))
    assert criterion.watches == "nothing" and criterion.level is None
    steps = [StepInfo(step=i, steps=4, sigma=nan) for i in range(4)]
    assert [criterion.should_reuse((), at) for at in steps] == [False, True, False, True]


BITS = "1110100"


@pytest.mark.parametrize(
    ("overrides", "options"),
    [
        (("steps", f"mask={BITS}"), Steps(mask=BITS)),  # YAML and Hydra take it for a number
        (("steps", "mask=cache_dit_fast"), Steps(mask="cache_dit_fast")),
        (("steps", "computed=[1,2,5]", "of=7"), Steps(computed=[1, 2, 5], of=7)),
        (("budget", "computed=4", "share=null"), Budget(computed=4, share=None)),
        (("interval", "spacing=non_uniform"), Interval(start=0.25, spacing=Spacing.non_uniform)),
        (("accumulated_polynomial",), AccumulatedPolynomial()),
        (
            ("accumulated_polynomial", "coefficients=[2,-1.5,0]", "range=[0,0.5]"),
            AccumulatedPolynomial(coefficients=[2.0, -1.5, 0.0], range=[0.0, 0.5]),
        ),
        (("magnitude_ratio", "ratios=[1,1.2]"), MagnitudeRatio(ratios=[1.0, 1.2])),
        (("accumulated_change",), AccumulatedChange()),
        (("predicted_change",), PredictedChange()),
        (("never",), Never()),
    ],
)
def test_from_yaml_and_the_command_line(
    composed: Callable[..., dict[str, Any]], overrides: tuple[str, ...], options: PartConfig
) -> None:
    """Each option file holds its class's defaults, and an override of it arrives."""
    name, *keys = overrides
    given = [f"cache.criterion.{key}" for key in keys]
    config = resolve_config(composed("cache=custom", f"cache/criterion={name}", "cache.start=0.25", *given))
    assert config.cache.criterion == options
