"""Simulated strategies on recorded numbers: cases worked out by hand, and every threshold of small calibrations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.caching.generate import fbcache
from wavespeed_runner.caching.calibration.data import Calibration, ModelTrace
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.caching.calibration.simulate import (
    replace_threshold,
    simulate,
    simulate_thresholds,
)
from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio
from wavespeed_runner.caching.criteria.schedules import Never
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, PredictedChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import FirstBlockOutput, FirstBlockResidual, ModelChange, NoSignal
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.errors import ConfigError


@pytest.fixture(scope="module")
def demo() -> Calibration:
    return load(SHIPPED / "demo.yaml")


def test_the_window_and_the_limits_of_real_runs_apply(demo):
    everything = fbcache(1e9, start=0.3, end=0.8, max_consecutive_cache_hits=2)
    reused = set(range(1, 29)) - set(simulate(demo, everything).computed)
    assert reused == {10, 11, 13, 14, 16, 17, 19, 20, 22, 23}
    assert simulate(demo, replace(everything, max_cache_hits=3)).computed == sorted({*range(1, 29)} - {10, 11, 13})
    forced = simulate(demo, fbcache(1e9, warmup_steps=4, force_last_step=True)).computed
    assert forced == [1, 2, 3, 4, 28]


def build_small(rows: list[list[float]], rate: list[list[float]] | None = None) -> Calibration:
    """One guidance branch with this signal; its model trace has each step's change since the previous step."""
    steps = len(rows) + 1
    trace = ModelTrace(input=[row[-1] for row in rows], rate=rate or [[1.0] * len(row) for row in rows])
    signals = {name: {"cond": rows} for name in ("first_block_residual", "first_block_output")}
    sigmas = [1 - i / steps for i in range(steps)]
    return Calibration(key={}, made={}, sigmas=sigmas, signals=signals, model={"cond": trace})


def test_changes_against_the_last_computed_step_worked_out_by_hand():
    """Step 2 changes by .1: reused. Step 3 by .3 since step 1: computed. Step 4 by .15 since step 3: reused."""
    rows = [[0.1], [0.3, 0.25], [0.5, 0.4, 0.15]]
    assert simulate(build_small(rows), fbcache(0.2)).computed == [1, 3]
    assert simulate(build_small(rows), fbcache(0.35)).computed == [1, 4]
    assert simulate(build_small(rows), fbcache(0.35)).levels == [(0.1, False), (0.3, False), (0.5, True)]


def test_accumulated_changes_worked_out_by_hand():
    """.1, .1 + .25, then anew: .15."""
    cache = CacheConfig(
        name="custom", signal=FirstBlockOutput(), criterion=AccumulatedChange(threshold=0.3), predictor=Reuse()
    )
    rows = [[0.1], [0.3, 0.25], [0.5, 0.4, 0.15]]
    assert simulate(build_small(rows), cache).computed == [1, 3]


def test_predicted_changes_worked_out_by_hand():
    """No rate is known before step 3. There k is that of step 2: 2 * .1 = .2, reused. Step 4 adds 2 * .2: .6, computed.
    Step 5 has the rate of step 4 since the computed step before it, step 2: 5 * .1 = .5, computed."""
    rate = [[2.0], [9.0, 9.0], [9.0, 5.0, 9.0], [9.0] * 4]
    rows = [[0.3], [0.0, 0.1], [0.0, 0.0, 0.2], [0.0, 0.0, 0.0, 0.1]]
    cache = CacheConfig(
        name="custom", signal=ModelChange(), criterion=PredictedChange(threshold=0.3), predictor=Reuse()
    )
    assert simulate(build_small(rows, rate), cache).computed == [1, 2, 4, 5]
    higher = replace_threshold(cache, 0.55)
    assert simulate(build_small(rows, rate), higher).computed == [1, 2, 4]


def test_a_step_without_numbers_is_computed():
    rows: list[list[Any]] = [[None], [None, 0.1], [None, 0.1, 0.1]]
    assert simulate(build_small(rows), fbcache(1.0)).computed == [1, 2]


@st.composite
def triangles(draw: st.DrawFn) -> list[list[float]]:
    change = st.floats(0.001, 1.0).map(lambda x: round(x, 3))
    return [draw(st.lists(change, min_size=i + 1, max_size=i + 1)) for i in range(draw(st.integers(1, 9)))]


@settings(deadline=None, max_examples=60)
@given(rows=triangles(), data=st.data())
@pytest.mark.parametrize("kind", ["computed", "previous", "ratios"])
def test_simulated_thresholds_cover_every_threshold(kind, rows, data):
    """At any threshold the prediction is that of the piece in which the threshold lies."""
    steps = len(rows) + 1
    parts = {
        "computed": fbcache(0.1),
        "previous": CacheConfig(
            name="custom", signal=FirstBlockResidual(), criterion=AccumulatedChange(), predictor=Reuse()
        ),
        "ratios": CacheConfig(
            name="custom",
            signal=NoSignal(),
            criterion=MagnitudeRatio(ratios=[1.0, *(1 - row[-1] / 2 for row in rows)]),
            predictor=Reuse(),
        ),
    }
    cache, calibration = parts[kind], build_small(rows)
    pieces = list(simulate_thresholds(calibration, cache))
    starts = [start for start, _ in pieces]
    assert starts == sorted(set(starts))
    assert pieces[0][1].computed == list(range(1, steps + 1))
    assert len(pieces[-1][1].computed) == 1
    threshold = data.draw(st.floats(0, 1.2 * starts[-1]))
    within = [prediction for start, prediction in pieces if start <= threshold][-1]
    # Exactly at the level that ends a piece, criteria with `level <= threshold` are one ulp ahead.
    if not any(abs(start - threshold) < 1e-12 for start in starts):
        assert simulate(calibration, replace_threshold(cache, threshold)).computed == within.computed


def test_strategies_that_cannot_be_simulated_are_refused(demo):
    cache = fbcache(0.1, blocks=2)
    with pytest.raises(ConfigError, match="with the default values only"):
        simulate(demo, cache)
    with pytest.raises(ConfigError, match="cache/signal=first_block_residual: the calibration has no trace of it"):
        simulate(replace(demo, signals={}), fbcache(0.1))
    with pytest.raises(ConfigError, match="cache/criterion=never: it has no threshold"):
        replace_threshold(replace(cache, criterion=Never()), 0.1)
