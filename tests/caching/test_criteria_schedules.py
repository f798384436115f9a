"""Schedules: published examples, exact counts for any number of steps, and refusals that name their key."""

from __future__ import annotations

from itertools import pairwise
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio
from wavespeed_runner.caching.criteria.schedule import choose_steps, explain_misfit, list_scheduled_steps
from wavespeed_runner.caching.criteria.schedules import Budget, Interval, IntervalCriterion, Never, Spacing
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.criteria.thresholds import RelativeChange
from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.caching.window import list_computed_steps
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import CacheConfig, PartConfig
from wavespeed_runner.errors import ConfigError

OPEN = CacheConfig(name="x")
STEPS = st.integers(1, 200)
FAST = "1111110100010000100000100001"
"""cache-dit's mask `fast`, as it prints it."""


def list_steps(options: PartConfig, steps: int, window: CacheConfig = OPEN) -> list[int]:
    """Computed steps, counted from 1."""
    computed = list_scheduled_steps(options, steps, window)
    assert computed is not None
    return computed


def space_in_numpy(steps: int, count: int, center: int, power: float) -> list[int] | None:
    """DeepCache's formula in numpy, rounded so that -15 does not become -14; None if it finds no schedule."""
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
    assert list_steps(Never(), steps) == list(range(1, steps + 1))


def test_deepcaches_uniform_schedule() -> None:
    assert list_steps(Interval(interval=3), 10) == [1, 4, 7, 10]
    assert list_steps(Interval(interval=1), 4) == [1, 2, 3, 4]
    assert list_steps(Interval(interval=5), 3) == [1]


@pytest.mark.parametrize("interval", [2, 3, 5, 6, 9])
@pytest.mark.parametrize("warmup", [1, 3, 4])
def test_after_warmup_is_diffusers_schedule(interval: int, warmup: int) -> None:
    from diffusers.hooks.hooks import CacheContext, StateManager
    from diffusers.hooks.taylorseer_cache import TaylorSeerCacheHook, TaylorSeerState

    states = StateManager(TaylorSeerState, init_kwargs={})
    states.set_context(CacheContext("one"))
    hook = TaylorSeerCacheHook(interval, warmup, None, states)
    theirs = [step for step in range(1, 51) if hook._measure_should_compute()[0]]
    options = Interval(interval=interval, spacing=Spacing.after_warmup, warmup=warmup)
    assert list_steps(options, 50, CacheConfig(name="x", warmup_steps=warmup)) == theirs


def test_the_shipped_taylorseer_computes_what_diffusers_does_at_interval_6() -> None:
    with composer(None):
        cache = resolve_config(compose_job(["cache=taylorseer", "cache.interval=6"], [])).cache
    assert cache.criterion is not None
    assert list_steps(cache.criterion, 28, cache) == [1, 2, 3, 5, 11, 17, 23]


def test_taylorseers_schedule_on_flux() -> None:
    """The first 3 of 50 steps, then every sixth: its FLUX script."""
    window = CacheConfig(name="x", warmup_steps=3)
    options = Interval(interval=6, spacing=Spacing.since_computed)
    assert list_steps(options, 50, window) == [1, 2, *range(3, 51, 6)]


def test_since_computed_restarts_at_a_forced_step() -> None:
    window = CacheConfig(name="x", max_consecutive_cache_hits=2)
    assert list_steps(Interval(interval=5, spacing=Spacing.since_computed), 10, window) == [1, 4, 7, 10]
    assert list_steps(Interval(interval=5), 10, window) == [1, 4, 6, 9]


@given(STEPS, st.integers(1, 12), st.integers(0, 99))
def test_intervals_start_with_the_window(steps: int, interval: int, start: int) -> None:
    window = CacheConfig(name="x", start=start / 100)
    computed = list_steps(Interval(interval=interval, start=start / 100), steps, window)
    first = -(-start * steps // 100)  # the first i with i / steps >= start / 100
    assert computed == [i + 1 for i in range(steps) if i == 0 or i < first or (i - first) % interval == 0]


def test_deepcaches_non_uniform_schedule() -> None:
    """The settings of its Stable Diffusion script: 1:5 of 50 steps, power 1.4, center 15."""
    options = Interval(interval=5, spacing=Spacing.non_uniform, power=1.4, center=15)
    computed = list_steps(options, 50)
    assert [step - 1 for step in computed] == space_in_numpy(50, 10, 15, 1.4)
    assert computed == [1, 6, 10, 14, 18, 22, 27, 32, 38, 44]


@given(st.integers(10, 120), st.integers(2, 8), st.integers(1, 60), st.sampled_from([1.2, 1.4, 1.5, 2.0]))
def test_the_non_uniform_schedule_is_the_published_formula(
    steps: int, interval: int, center: int, power: float
) -> None:
    options = Interval(interval=interval, spacing=Spacing.non_uniform, power=power, center=center)
    published = space_in_numpy(steps, -(-steps // interval), center, power)
    if published is None:
        assert "no " in explain_misfit(options, steps) and "spacing=uniform" in explain_misfit(options, steps)
    else:
        assert sorted(choose_steps(options, steps)) == published


@given(st.sets(st.integers(2, 60)), st.integers(60, 80))
def test_a_list_and_its_mask_give_the_same_schedule(others: set[int], steps: int) -> None:
    computed = sorted({1} | others)
    mask = "".join("1" if step in computed else "0" for step in range(1, steps + 1))
    assert list_steps(Steps(computed=computed), steps) == computed
    assert list_steps(Steps(computed=computed, of=steps), steps) == computed
    assert list_steps(Steps(mask=mask), steps) == computed


def test_a_published_mask_by_name() -> None:
    by_name = list_steps(Steps(mask="cache_dit_fast"), 28)
    assert by_name == list_steps(Steps(mask=FAST), 28) and len(by_name) == 11


@pytest.mark.parametrize(
    ("options", "steps", "message"),
    [
        (Steps(mask="cache_dit_fast"), 7, "cache.criterion.mask=cache_dit_fast: made for 4, 6, 8 or more steps, and 7"),
        (Steps(mask="lemica_flux_fast"), 20, "cache.criterion.mask=lemica_flux_fast: made for 50 steps, and 20 are"),
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
def test_a_schedule_for_other_steps_is_refused(options: PartConfig, steps: int, message: str) -> None:
    assert message in explain_misfit(options, steps)
    with pytest.raises(ConfigError):
        list_scheduled_steps(options, steps, OPEN)


@given(STEPS, st.data(), st.integers(1, 12), st.floats(1, 4))
def test_a_budget_computes_exactly_as_many_steps(steps: int, data: st.DataObject, warmup: int, power: float) -> None:
    count = data.draw(st.integers(1, steps))
    computed = list_steps(Budget(computed=count, share=None, warmup=warmup, power=power), steps)
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
    misfit = explain_misfit(options, steps)
    if misfit:
        assert (count - min(4, count - 1)) * largest < steps - min(4, count - 1)
        enough = int(misfit.partition("compute ")[2].partition(",")[0])
        assert count < enough <= steps
        assert explain_misfit(Budget(computed=enough, share=None, largest_gap=largest), steps) == ""
    else:
        computed = sorted(choose_steps(options, steps))
        assert len(computed) == count and max(b - a for a, b in pairwise(computed)) <= largest


@given(STEPS, st.floats(0.001, 1))
def test_a_share_is_rounded(steps: int, share: float) -> None:
    assert len(list_steps(Budget(share=share), steps)) == max(1, round(share * steps))


def test_even_gaps_and_growing_ones() -> None:
    assert sorted(choose_steps(Budget(computed=6, share=None, warmup=2, power=1), 18)) == [0, 1, 5, 9, 13, 17]
    assert sorted(choose_steps(Budget(computed=6, share=None, warmup=2, power=2), 18)) == [0, 1, 2, 5, 10, 17]


def test_window_and_limit_are_applied() -> None:
    """A criterion that always reuses gives the published answer of the window itself."""
    window = CacheConfig(name="x", start=0.2, end=0.8, max_consecutive_cache_hits=5)
    always = MagnitudeRatio(threshold=1e9, ratios=[1.5])
    assert list_scheduled_steps(always, 30, window) == list_computed_steps(window, 30)
    assert list_scheduled_steps(Steps(computed=[1]), 30, window) == list_computed_steps(window, 30)


def test_criteria_that_watch_a_signal_have_no_scheduled_steps() -> None:
    assert list_scheduled_steps(RelativeChange(), 30, OPEN) is None
    assert explain_misfit(RelativeChange(), 30) == explain_misfit(None, 30) == ""


def test_a_schedule_has_no_level_and_needs_no_numbers() -> None:
    criterion = IntervalCriterion(Interval(interval=2))
    assert criterion.watches == "nothing" and criterion.level is None
    steps = [StepInfo(step=i, steps=4, sigma=nan) for i in range(4)]
    assert [criterion.should_reuse((), at) for at in steps] == [False, True, False, True]
