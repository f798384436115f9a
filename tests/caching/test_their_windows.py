"""Rules of other programs, in replicas written from what they do, against ours with the settings that docs name.

ComfyUI-TeaCache: https://github.com/welltop-cn/ComfyUI-TeaCache/blob/main/nodes.py. LightDiffusion-Next:
https://github.com/Aatricks/LightDiffusion-Next/blob/main/src/WaveSpeed/deepcache_nodes.py.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed_runner.caching.criteria.schedules import Interval, IntervalCriterion, Spacing
from wavespeed_runner.caching.criteria.thresholds import AccumulatedPolynomial, AccumulatedPolynomialCriterion, Clamp
from wavespeed_runner.caching.interfaces import Criterion, StepInfo
from wavespeed_runner.caching.window import CacheHits, ask
from wavespeed_runner.config.schema import CacheConfig, Window
from wavespeed_runner.errors import Unfit

CHANGES = st.lists(st.floats(0, 0.4), min_size=2, max_size=40)
POLYNOMIALS = {
    "as it is": [498.651651, -283.781631, 55.8554382, -3.82021401, 0.264230861],
    "negative": [-31360.5009, -712.425503, 49.1363285, 8.2651549, 0.108053901],
}
"""Published for FLUX.1-dev and for HiDream-I1-Full."""


def run(
    criterion: Criterion,
    cache: CacheConfig,
    steps: int,
    numbers: Callable[[int], tuple[float, ...]],
    progress: Callable[[int], float | None] = lambda step: None,
) -> list[int]:
    """The computed steps, counted from 0, as the engine asks for them."""
    hits, computed = CacheHits(), []
    for step in range(steps):
        at = StepInfo(step=step, steps=steps, sigma=0.0, progress=progress(step))
        skipped = ask(criterion, cache, numbers(step) if step else None, at, hits)
        hits.count(skipped)
        if not skipped:
            criterion.record_computed(at)
            computed.append(step)
    return computed


def replicate_comfyui_teacache(
    changes: list[float], rescale: Callable[[float], float], threshold: float, start: float, end: float
) -> list[int]:
    """The sum goes on outside of [start, end], where steps are computed whatever it is; no last step is forced."""
    total, computed = 0.0, [0]
    for step in range(1, len(changes)):
        total += rescale(changes[step])
        is_small = total < threshold
        total = total if is_small else 0.0
        if not is_small or not start <= step / len(changes) <= end:
            computed.append(step)
    return computed


@settings(max_examples=300, deadline=None)
@given(
    CHANGES,
    st.floats(0.05, 2),
    st.integers(0, 10),
    st.integers(0, 10),
    st.sampled_from(list(POLYNOMIALS)),
    st.sampled_from([Clamp.none, Clamp.absolute]),
)
def test_comfyui_teacache_computes_the_same_steps(
    changes: list[float], threshold: float, low: int, high: int, name: str, clamp: Clamp
) -> None:
    start, end = sorted((low / 10, high / 10))
    polynomial = POLYNOMIALS[name]

    def rescale(change: float) -> float:
        value = float(np.polyval(polynomial, change))
        return abs(value) if clamp is Clamp.absolute else value

    options = AccumulatedPolynomial(threshold=threshold, coefficients=polynomial, clamp=clamp, outside_window=True)
    cache = CacheConfig(start=start, end=end, include_end=True)
    ours = run(AccumulatedPolynomialCriterion(options), cache, len(changes), lambda step: (changes[step],))
    assert ours == replicate_comfyui_teacache(changes, rescale, threshold, start, end)


def test_without_the_option_the_sum_begins_inside_of_the_window() -> None:
    options = {"threshold": 1.0, "coefficients": [1.0, 0.0]}  # a change counts as it is
    cache = CacheConfig(start=0.5)
    inside = AccumulatedPolynomialCriterion(AccumulatedPolynomial(**options))
    assert run(inside, cache, 12, lambda step: (0.3,)) == [0, 1, 2, 3, 4, 5, 9]
    outside_too = AccumulatedPolynomialCriterion(AccumulatedPolynomial(**options, outside_window=True))
    assert run(outside_too, cache, 12, lambda step: (0.3,)) == [0, 1, 2, 3, 4, 5, 8]


@pytest.mark.parametrize(("clamp", "added"), [(Clamp.range, 0.0), (Clamp.none, -3.0), (Clamp.absolute, 3.0)])
def test_what_becomes_of_values_below_zero(clamp: Clamp, added: float) -> None:
    criterion = AccumulatedPolynomialCriterion(
        AccumulatedPolynomial(threshold=9.0, coefficients=[-10.0, 0.0], clamp=clamp)
    )
    criterion.should_reuse((0.3,), StepInfo(step=1, steps=9, sigma=0.0))
    assert criterion.sum == pytest.approx(added)


def replicate_lightdiffusion(timesteps: list[float], interval: int, start_step: int, end_step: int) -> list[int]:
    """Inside of the timesteps the first call and every n-th from there run; nothing is kept outside of them.

    As its description has it. Its own calls hand noise levels on instead, see docs/coming_from.md.
    """
    computed, count = [], -1
    for step, t in enumerate(timesteps):
        count = count + 1 if 1000 - end_step <= t <= 1000 - start_step else -1
        if count == -1 or count % interval == 0:
            computed.append(step)
    return computed


@given(
    st.integers(1, 60),
    st.integers(2, 6),
    st.sampled_from([(0, 1000), (200, 800), (100, 1000), (0, 700)]),
)
def test_lightdiffusion_s_deepcache_computes_the_same_steps(steps: int, interval: int, ends: tuple[int, int]) -> None:
    timesteps = [float(round(999 * (1 - number / steps))) for number in range(steps)]
    start, end = (bound / 1000 for bound in ends)
    cache = CacheConfig(window=Window.timesteps, start=start, end=end)
    criterion = IntervalCriterion(Interval(interval=interval, spacing=Spacing.in_window))
    ours = run(criterion, cache, steps, lambda step: (), lambda step: round(1 - timesteps[step] / 1000, 9))
    assert ours == replicate_lightdiffusion(timesteps, interval, *ends)


def test_a_range_that_nothing_is_clamped_to_is_refused() -> None:
    with pytest.raises(Unfit, match="it could not take effect"):
        AccumulatedPolynomial(coefficients=[1.0], range=[0.0, 0.1], clamp=Clamp.none)
