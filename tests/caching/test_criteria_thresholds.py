"""Threshold criteria, each against the published rule, written here again the way its authors wrote it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio, nearest_index
from wavespeed_runner.caching.criteria.schedule import list_scheduled_steps
from wavespeed_runner.caching.criteria.thresholds import (
    AccumulatedChange,
    AccumulatedChangeCriterion,
    AccumulatedPolynomial,
    AccumulatedPolynomialCriterion,
    PredictedChange,
    PredictedChangeCriterion,
    RelativeChange,
    RelativeChangeCriterion,
    evaluate_polynomial,
)
from wavespeed_runner.caching.interfaces import StepInfo
from wavespeed_runner.config.schema import CacheConfig

CHANGES = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=40)
COEFFICIENTS = st.lists(st.floats(-10, 10, allow_subnormal=False), min_size=1, max_size=5)
THRESHOLDS = st.floats(0, 2)


def at(step: int, steps: int = 100) -> StepInfo:
    return StepInfo(step=step, steps=steps, sigma=0.5)


def decide(criterion, numbers: list[tuple[float, ...]]) -> list[bool]:  # type: ignore[no-untyped-def]
    """The decisions, step by step, when only the criterion makes a step computed."""
    reused = []
    for step, measured in enumerate(numbers):
        reused.append(criterion.should_reuse(measured, at(step)))
        if not reused[-1]:
            criterion.record_computed(at(step))
    return reused


@given(CHANGES, THRESHOLDS)
def test_relative_change_reuses_below_the_threshold(changes: list[float], threshold: float) -> None:
    criterion = RelativeChangeCriterion(RelativeChange(threshold=threshold))
    assert decide(criterion, [(c,) for c in changes]) == [c < threshold for c in changes]
    assert criterion.level == changes[-1]


def test_a_change_equal_to_the_threshold_is_computed() -> None:
    assert not RelativeChangeCriterion(RelativeChange(threshold=0.25)).should_reuse((0.25,), at(1))
    assert not AccumulatedChangeCriterion(AccumulatedChange(threshold=0.25)).should_reuse((0.25,), at(1))


def sum_below(values: list[float], threshold: float) -> list[bool]:
    """TeaCache's rule: add up; below the threshold skip, otherwise compute and start again from zero."""
    reused, total = [], 0.0
    for value in values:
        total = total + value
        reused.append(total < threshold)
        if total >= threshold:
            total = 0.0
    return reused


@given(CHANGES, THRESHOLDS)
def test_accumulated_change_reuses_up_to_the_threshold(changes: list[float], threshold: float) -> None:
    criterion = AccumulatedChangeCriterion(AccumulatedChange(threshold=threshold))
    assert decide(criterion, [(c,) for c in changes]) == sum_below(changes, threshold)


@given(CHANGES, THRESHOLDS, COEFFICIENTS)
def test_accumulated_polynomial_adds_up_its_values(
    changes: list[float], threshold: float, coefficients: list[float]
) -> None:
    criterion = AccumulatedPolynomialCriterion(AccumulatedPolynomial(threshold=threshold, coefficients=coefficients))
    values = [max(0.0, float(value)) for value in np.polyval(coefficients, changes)]
    assert decide(criterion, [(c,) for c in changes]) == sum_below(values, threshold)


@given(COEFFICIENTS, st.floats(0, 1))
def test_the_polynomial_equals_numpys(coefficients: list[float], x: float) -> None:
    assert evaluate_polynomial(coefficients, x) == pytest.approx(np.polyval(coefficients, x), rel=1e-12, abs=1e-12)


@given(CHANGES, COEFFICIENTS)
def test_the_level_never_falls(changes: list[float], coefficients: list[float]) -> None:
    criterion = AccumulatedPolynomialCriterion(AccumulatedPolynomial(threshold=1e9, coefficients=coefficients))
    levels = []
    for step, change in enumerate(changes):
        criterion.should_reuse((change,), at(step))
        levels.append(criterion.level)
    assert all(before <= after for before, after in pairwise([0.0, *levels]))


def test_a_change_outside_the_range_is_clamped() -> None:
    criterion = AccumulatedPolynomialCriterion(
        AccumulatedPolynomial(threshold=100, coefficients=[1.0, 0.0], range=[0.1, 0.3])
    )
    levels = []
    for step, change in enumerate([0.0, 0.2, 7.0]):
        criterion.should_reuse((change,), at(step))
        levels.append(criterion.level)
    assert levels == pytest.approx([0.1, 0.1 + 0.2, 0.1 + 0.2 + 0.3])


def test_a_forced_step_restarts_the_sum() -> None:
    criterion = AccumulatedChangeCriterion(AccumulatedChange(threshold=1.0))
    assert criterion.should_reuse((0.9,), at(1))
    criterion.record_computed(at(2))
    assert criterion.should_reuse((0.8,), at(3)) and criterion.level == 0.8


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 5)), min_size=1, max_size=30), THRESHOLDS)
def test_predicted_change_adds_up_the_predictions(measured: list[tuple[float, float]], threshold: float) -> None:
    criterion = PredictedChangeCriterion(PredictedChange(threshold=threshold))
    assert decide(criterion, list(measured)) == sum_below([k * c for c, k in measured], threshold)


def list_magcache_steps(ratios: list[float], threshold: float, limit: int, retention: int) -> list[int]:
    """Computed steps, counted from 1, by the rule of diffusers' `MagCacheHeadHook`, with one ratio per step."""
    computed = []
    ratio, error, steps = 1.0, 0.0, 0
    for step, scale in enumerate(ratios):
        if step >= retention:
            ratio *= scale
            steps += 1
            error += abs(1.0 - ratio)
            if step > 0 and error <= threshold and steps <= limit:
                continue
            ratio, error, steps = 1.0, 0.0, 0
        computed.append(step + 1)
    return computed


@given(
    st.lists(st.floats(0.5, 2.0), min_size=1, max_size=60),
    st.floats(0, 1),
    st.integers(1, 8),
    st.floats(0, 1),
    st.data(),
)
def test_magnitude_ratio_decides_like_magcache(
    ratios: list[float], threshold: float, limit: int, share: float, data: st.DataObject
) -> None:
    steps = len(ratios)
    retention = data.draw(st.integers(0, steps - 1))
    window = CacheConfig(name="x", start=retention / steps, max_consecutive_cache_hits=limit)
    computed = list_scheduled_steps(MagnitudeRatio(threshold=threshold, ratios=ratios), steps, window)
    assert computed == list_magcache_steps(ratios, threshold, limit, retention)


@pytest.mark.parametrize(("threshold", "limit"), [(0.06, 3), (0.24, 5), (0.5, 4), (0.0, 2)])
@pytest.mark.parametrize("steps", [28, 20, 50])
def test_magnitude_ratio_decides_like_diffusers(threshold: float, limit: int, steps: int) -> None:
    """diffusers' own hooks on a small FLUX transformer: which calls reach the second block."""
    from diffusers import FluxTransformer2DModel
    from diffusers.hooks.mag_cache import FLUX_MAG_RATIOS, MagCacheConfig, apply_mag_cache

    model = FluxTransformer2DModel(
        num_layers=2,
        num_single_layers=0,
        in_channels=4,
        attention_head_dim=8,
        num_attention_heads=1,
        joint_attention_dim=4,
        pooled_projection_dim=4,
        axes_dims_rope=(2, 2, 4),
    ).eval()
    apply_mag_cache(
        model,
        MagCacheConfig(
            threshold=threshold,
            max_skip_steps=limit,
            retention_ratio=0.25,
            num_inference_steps=steps,
            mag_ratios=FLUX_MAG_RATIOS,
        ),
    )
    reached: list[int] = []
    computed: list[int] = []
    model.transformer_blocks[1].norm1.register_forward_hook(lambda *_: reached.append(1))
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        before = len(reached)
        with torch.no_grad():
            model(
                hidden_states=torch.randn(1, 4, 4, generator=generator),
                encoder_hidden_states=torch.zeros(1, 2, 4),
                pooled_projections=torch.zeros(1, 4),
                timestep=torch.tensor([1 - step / steps]),
                img_ids=torch.zeros(4, 3),
                txt_ids=torch.zeros(2, 3),
            )
        if len(reached) > before:
            computed.append(step + 1)
    retention = int(0.25 * steps + 0.5)
    window = CacheConfig(name="x", start=retention / steps, max_consecutive_cache_hits=limit)
    options = MagnitudeRatio(threshold=threshold, ratios=FLUX_MAG_RATIOS.tolist())
    assert list_scheduled_steps(options, steps, window) == computed


@given(st.integers(1, 60), st.integers(1, 120))
def test_ratios_for_another_number_of_steps_are_the_nearest(count: int, steps: int) -> None:
    """Like diffusers, except at exact halves, which its single precision rounds either way."""
    from diffusers.hooks.mag_cache import nearest_interp

    expected = [int(i) for i in nearest_interp(torch.arange(count), steps)]
    for step, index in enumerate(expected):
        nearest = nearest_index(step, steps, count)
        assert nearest == index or (steps > 1 and abs(step * (count - 1) / (steps - 1) - (nearest + index) / 2) < 1e-9)
