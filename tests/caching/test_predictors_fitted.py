"""Fitted weights against least squares on the residuals themselves, and the predictor that uses them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.caching.sequences import at, gram_triangle, play, smooth_residuals
from wavespeed_runner.caching.predictors.fitted import (
    RIDGE,
    Fitted,
    FittedPredictor,
    fit_error,
    fit_weights,
)
from wavespeed_runner.errors import ConfigError, RunError


def least_squares(residuals: np.ndarray, history: tuple[int, ...], step: int, ridge: float) -> np.ndarray:
    """Ridge regression, with the ridge as extra rows: sqrt(lambda) (w - extrapolation) = 0."""
    x = residuals[list(history)].T
    pull = np.sqrt(ridge * (x**2).sum() / len(history)) * np.eye(len(history))
    return np.linalg.lstsq(
        np.vstack([x, pull]), np.concatenate([residuals[step], pull @ extrapolate(history, step)]), rcond=None
    )[0]


def extrapolate(history: tuple[int, ...], step: int, order: int = 1) -> np.ndarray:
    """Weights of the computed values in the polynomial through the last ones, from its coefficients."""
    last = history[-(order + 1) :]
    weights = [np.polyval(np.polyfit(last, unit, len(last) - 1), step) for unit in np.eye(len(last))]
    return np.array([0.0] * (len(history) - len(last)) + weights)


HISTORIES = [((4,), 6), ((2, 4), 5), ((0, 1, 2), 9), ((1, 4, 7), 8)]


@pytest.mark.parametrize(("history", "step"), HISTORIES)
@pytest.mark.parametrize("ridge", [0.0, 1e-5, 0.1])
def test_weights_are_the_least_squares_of_the_residuals(history: tuple[int, ...], step: int, ridge: float) -> None:
    residuals = smooth_residuals(10)
    weights, expected = (
        fit_weights(gram_triangle(residuals), history, step, ridge),
        least_squares(residuals, history, step, ridge),
    )
    np.testing.assert_allclose(weights, expected, rtol=1e-5, atol=1e-7)
    error = residuals[step] - expected @ residuals[list(history)]
    expected_error = (error**2).sum() / (residuals[step] ** 2).sum()
    assert fit_error(gram_triangle(residuals), history, step, ridge) == pytest.approx(expected_error, rel=1e-5)


def test_runs_of_different_sizes_are_fitted_together() -> None:
    """Gram matrices add up: a fit over two runs equals a fit over their concatenated residuals."""
    one, two = smooth_residuals(10, seed=1), smooth_residuals(10, size=90, seed=2)
    both = [
        [a + b for a, b in zip(x, y, strict=True)] for x, y in zip(gram_triangle(one), gram_triangle(two), strict=True)
    ]
    weights = fit_weights(both, (0, 2, 5), 7, 1e-5)
    np.testing.assert_allclose(weights, least_squares(np.hstack([one, two]), (0, 2, 5), 7, 1e-5), rtol=1e-5)


def test_one_residual_is_scaled_to_fit() -> None:
    residuals = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert fit_weights(gram_triangle(residuals), (0,), 1, 0.0) == pytest.approx([2.0])
    assert fit_error(gram_triangle(residuals), (0,), 1, 0.0) == pytest.approx(0.0, abs=1e-12)


def test_residuals_on_a_line_are_extrapolated() -> None:
    a, b = smooth_residuals(2)
    line = np.stack([a + b * t for t in range(8)])
    assert fit_weights(gram_triangle(line), (0, 2), 5, 1e-12) == pytest.approx([-1.5, 2.5], abs=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_a_singular_gram_falls_back_to_extrapolation(ridge: float) -> None:
    same = gram_triangle(np.ones((6, 4)))
    assert fit_weights(same, (0, 1, 2), 4, ridge) == pytest.approx(extrapolate((0, 1, 2), 4), abs=1e-6)
    nothing = gram_triangle(np.zeros((6, 4)))
    assert fit_weights(nothing, (0, 1, 2), 4, ridge) == pytest.approx(extrapolate((0, 1, 2), 4))
    assert fit_error(nothing, (0, 1, 2), 4, ridge) == 0


def test_a_strong_ridge_gives_extrapolation() -> None:
    residuals = smooth_residuals(8)
    for order in (1, 2):
        weights = fit_weights(gram_triangle(residuals), (1, 3, 4), 6, 1e6, order)
        np.testing.assert_allclose(weights, extrapolate((1, 3, 4), 6, order), rtol=1e-4, atol=1e-5)


def test_the_error_is_infinite_if_only_the_skipped_residual_is_zero() -> None:
    residuals = smooth_residuals(8)
    residuals[4] = 0
    assert fit_error(gram_triangle(residuals), (0, 1), 4, 0.1) == float("inf")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1e-8, 1.0, 1e8]), st.sampled_from([0.0, 1e-5, 0.01]))
def test_any_gram_gives_finite_weights_no_worse_than_extrapolation(
    seed: int, rank: int, scale: float, ridge: float
) -> None:
    generator = np.random.default_rng(seed)
    residuals = generator.normal(size=(6, rank)) @ generator.normal(size=(rank, 12)) * scale
    gram = gram_triangle(residuals)
    weights = fit_weights(gram, (0, 1, 3), 4, ridge)
    assert np.isfinite(weights).all()
    taylor = extrapolate((0, 1, 3), 4) @ residuals[[0, 1, 3]]
    left = ((residuals[4] - taylor) ** 2).sum() / (residuals[4] ** 2).sum()
    assert fit_error(gram, (0, 1, 3), 4, ridge) <= left + 1e-7


def test_the_fit_keeps_weights_of_nearly_equal_residuals_small() -> None:
    """Neighbours differ by noise only. Extrapolation would add the noise up; a fit with a weak pull averages it."""
    generator = np.random.default_rng(0)
    steady = generator.normal(size=2000) + 1e-1 * generator.normal(size=(8, 2000))
    weights, taylor = fit_weights(gram_triangle(steady), (1, 2, 3), 5, 1e-5), extrapolate((1, 2, 3), 5)
    assert sum(weights) == pytest.approx(1, abs=0.05)
    assert np.abs(weights).max() < 0.5 < np.abs(taylor).max()


@pytest.mark.parametrize("history", [2, 3])
def test_the_predictor_combines_the_last_computed_residuals(history: int) -> None:
    residuals = smooth_residuals(10)
    predictor = FittedPredictor(Fitted(gram=gram_triangle(residuals), history=history))
    computed = [0, 1, 3, 6]
    predicted = play(predictor, lambda s: torch.from_numpy(residuals[s]).reshape(1, 20, 3), computed, 10)
    for step, tensor in predicted.items():
        past = tuple([s for s in computed if s < step][-history:])
        expected = least_squares(residuals, past, step, RIDGE) @ residuals[list(past)]
        np.testing.assert_allclose(tensor.numpy().ravel(), expected, rtol=1e-6, atol=1e-6)


def test_it_needs_a_calibration() -> None:
    with pytest.raises(ConfigError, match=r"cache\.predictor\.gram=null.*calibrat.*cache/predictor=taylor"):
        FittedPredictor(Fitted())


def test_another_number_of_steps_is_refused_at_the_first_one() -> None:
    predictor = FittedPredictor(Fitted(gram=gram_triangle(smooth_residuals(10))))
    with pytest.raises(RunError, match=r"cache\.predictor\.gram.*10 steps.*has 12"):
        predictor.record_computed(at(0, 12), {"hidden_states": torch.ones(1)}, None)


def test_the_gram_matrix_survives_a_config() -> None:
    gram = gram_triangle(smooth_residuals(5))
    merged = OmegaConf.merge(OmegaConf.structured(Fitted), {"gram": gram})
    assert OmegaConf.to_object(merged) == Fitted(gram=gram)
