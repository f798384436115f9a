"""Weights that are listed for each step: the sum they give, and lists that are none."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.caching.sequences import at, gram_triangle, smooth_residuals
from wavespeed_runner.caching.predictors.fitted import Fitted, FittedPredictor, fit_weights
from wavespeed_runner.caching.predictors.step_weights import (
    StepWeights,
    StepWeightsPredictor,
    explain_misfit,
    find_problem,
)
from wavespeed_runner.errors import ConfigError, RunError

STEPS = 9
COMPUTED = (0, 2, 5)


def play(predictor: StepWeightsPredictor | FittedPredictor, residuals: list[torch.Tensor]) -> list[torch.Tensor]:
    predicted = []
    for step, residual in enumerate(residuals):
        if step in COMPUTED:
            predictor.record_computed(at(step, STEPS), {"hidden_states": residual}, None)
        else:
            predicted.append(predictor.predict(at(step, STEPS), None)["hidden_states"])
    return predicted


def test_weights_of_a_fit_give_what_the_fitted_predictor_gives() -> None:
    smooth = smooth_residuals(STEPS)
    gram = gram_triangle(smooth)
    residuals = [torch.tensor(row, dtype=torch.float32)[None, :, None] for row in smooth]
    rows = [
        [] if step in COMPUTED else fit_weights(gram, tuple(c for c in COMPUTED if c < step)[-3:], step)
        for step in range(STEPS)
    ]
    expected = play(FittedPredictor(Fitted(gram=gram)), residuals)
    found = play(StepWeightsPredictor(StepWeights(weights=rows)), residuals)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_the_sum_is_the_formula_in_float64() -> None:
    rng = torch.Generator().manual_seed(0)
    residuals = [torch.randn(2, 4, 3, generator=rng) for _ in range(STEPS)]
    rows = [[], [0.5], [], [-1.0, 2.5], [0.25], [], [0.1, -0.2, 1.2], [2.0, 3.0], [1.0]]
    found = play(StepWeightsPredictor(StepWeights(weights=rows)), residuals)
    skipped = [step for step in range(STEPS) if step not in COMPUTED]
    for step, one in zip(skipped, found, strict=True):
        before = [c for c in COMPUTED if c < step][-len(rows[step]) :]
        expected = sum(w * residuals[c].double() for w, c in zip(rows[step], before, strict=True))
        assert torch.allclose(one.double(), expected, atol=1e-6)


def test_weights_of_another_schedule_or_length_are_refused() -> None:
    predictor = StepWeightsPredictor(StepWeights(weights=[[], [0.5, 0.5], []]))
    with pytest.raises(RunError, match="for 3 steps, but this generation has 4"):
        predictor.record_computed(at(0, 4), {"hidden_states": torch.zeros(1, 1, 1)}, None)
    predictor.record_computed(at(0, 3), {"hidden_states": torch.zeros(1, 1, 1)}, None)
    with pytest.raises(RunError, match="2 for step 2, and 1 residuals are stored"):
        predictor.predict(at(1, 3), None)
    with pytest.raises(ConfigError, match="fit computed=N"):
        StepWeightsPredictor(StepWeights())


@pytest.mark.parametrize("row", [[float("nan")], [float("inf")], [1e4], [0.1] * 9])
def test_rows_that_are_no_weights_are_refused(row: list[float]) -> None:
    with pytest.raises(ConfigError, match=r"cache.predictor.weights: step 2: up to 8 numbers"):
        StepWeights(weights=[[], row])


@given(st.sets(st.integers(2, 12), max_size=8), st.data())
def test_a_misfit_is_a_row_too_many_or_too_long(others: set[int], data: st.DataObject) -> None:
    computed = sorted({1, *others})
    before = {step: sum(c < step for c in computed) for step in range(1, 13)}
    rows = [
        [] if step in computed else [0.5] * data.draw(st.integers(1, min(before[step], 8))) for step in range(1, 13)
    ]
    assert not find_problem(rows) and not explain_misfit(rows, computed)
    step = data.draw(st.integers(1, 12))
    wrong = [0.5] if step in computed else data.draw(st.sampled_from([[], [0.5] * (before[step] + 1)]))
    changed = [*rows[: step - 1], wrong, *rows[step:]]
    assert f"step {step}" in explain_misfit(changed, computed)
