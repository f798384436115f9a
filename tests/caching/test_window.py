"""The window: the published answer, exact fractions, and never more cached steps in a row than allowed."""

from __future__ import annotations

from fractions import Fraction
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.caching.window import CacheHits, is_inside_window, is_reuse_allowed, list_computed_steps
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import CacheConfig

HUNDREDTHS = st.integers(0, 100)
STEPS = st.integers(1, 200)
LIMITS = st.integers(-1, 8).filter(bool)


def window(start: float = 0.0, end: float = 1.0, limit: int = -1) -> CacheConfig:
    return CacheConfig(name="x", start=start, end=end, max_consecutive_cache_hits=limit)


def at(step: int, steps: int) -> StepInfo:
    return StepInfo(step=step, steps=steps, sigma=0.0)


def test_the_published_answer() -> None:
    assert list_computed_steps(window(0.2, 0.8, 5), 30) == [1, 2, 3, 4, 5, 6, 12, 18, 24, 25, 26, 27, 28, 29, 30]


def test_dicaches_window_as_its_script_has_it() -> None:
    """It computes step i of n, counted from 0, while i <= int(0.2 n), and the last one."""
    with composer(None):
        cache = resolve_config(compose_job(["cache=dicache"], [])).cache
    for steps in range(1, 201):
        expected = {i + 1 for i in range(steps) if i <= int(0.2 * steps)} | {steps}
        assert list_computed_steps(cache, steps) == sorted(expected)


def test_the_first_step_is_always_computed() -> None:
    assert list_computed_steps(window(), 4) == [1]
    assert list_computed_steps(window(limit=1), 5) == [1, 3, 5]


def test_the_end_is_outside_and_the_start_inside() -> None:
    assert [is_inside_window(window(0.25, 0.75), at(step, 4)) for step in range(4)] == [False, True, True, False]


@given(HUNDREDTHS, HUNDREDTHS, STEPS)
def test_fractions_are_exact(start: int, end: int, steps: int) -> None:
    # As written in YAML: 0.29 is 29/100, and step 29 of 100 is inside.
    tested = window(float(f"{start / 100:.2f}"), float(f"{end / 100:.2f}"))
    for step in range(steps):
        exact = Fraction(start, 100) <= Fraction(step, steps) < Fraction(end, 100)
        assert is_inside_window(tested, at(step, steps)) is exact


@given(HUNDREDTHS, HUNDREDTHS, STEPS, LIMITS)
def test_outside_nothing_is_skipped(start: int, end: int, steps: int, limit: int) -> None:
    tested = window(start / 100, end / 100, limit)
    computed = list_computed_steps(tested, steps)
    assert computed[0] == 1 and computed == sorted(set(computed))
    assert all(step + 1 in computed for step in range(steps) if not is_inside_window(tested, at(step, steps)))


@given(HUNDREDTHS, HUNDREDTHS, STEPS, st.integers(1, 8))
def test_no_more_are_skipped_in_a_row_than_allowed(start: int, end: int, steps: int, limit: int) -> None:
    computed = set(list_computed_steps(window(start / 100, end / 100, limit), steps))
    runs = [len(list(run)) for skipped, run in groupby(range(1, steps + 1), lambda s: s not in computed) if skipped]
    assert max(runs, default=0) <= limit


@given(st.integers(0, 30), LIMITS)
def test_a_step_is_allowed_until_the_limit(hits: int, limit: int) -> None:
    assert is_reuse_allowed(window(limit=limit), at(1, 2), CacheHits(in_a_row=hits)) is (limit == -1 or hits < limit)
