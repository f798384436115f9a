"""Fitted weights against least squares on the residuals themselves, and schedules against trying all of them."""

from __future__ import annotations

from itertools import combinations, pairwise
from time import process_time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.caching.sequences import at, played
from wavespeed_runner.caching.calibration.best_schedule import find_best_schedule
from wavespeed_runner.caching.predictors.fitted import (
    RIDGE,
    Fitted,
    FittedPredictor,
    fit_error,
    fit_weights,
)
from wavespeed_runner.errors import ConfigError, RunError


def smooth(steps: int, size: int = 60, seed: int = 0) -> np.ndarray:
    """Residuals as a denoiser's are, (steps, size): neighbours alike to some hundredths, and a little noise."""
    generator = np.random.default_rng(seed)
    time = np.linspace(0, 1, steps)
    curves = np.stack([np.ones(steps), time, np.cos(3 * time), np.exp(-5 * time)], axis=1)
    return curves @ generator.normal(size=(4, size)) + 0.01 * generator.normal(size=(steps, size))


def triangle(residuals: np.ndarray) -> list[list[float]]:
    gram = residuals @ residuals.T
    return [gram[i, : i + 1].tolist() for i in range(len(gram))]


def least_squares(residuals: np.ndarray, history: tuple[int, ...], step: int, ridge: float) -> np.ndarray:
    """The ridge as rows of their own: sqrt(lambda) (w - extrapolation) = 0."""
    x = residuals[list(history)].T
    pull = np.sqrt(ridge * (x**2).sum() / len(history)) * np.eye(len(history))
    return np.linalg.lstsq(
        np.vstack([x, pull]), np.concatenate([residuals[step], pull @ extrapolated(history, step)]), rcond=None
    )[0]


def extrapolated(history: tuple[int, ...], step: int, order: int = 1) -> np.ndarray:
    """How much each of the computed values adds to the polynomial through the last ones, by its coefficients."""
    last = history[-(order + 1) :]
    found = [np.polyval(np.polyfit(last, one, len(last) - 1), step) for one in np.eye(len(last))]
    return np.array([0.0] * (len(history) - len(last)) + found)


HISTORIES = [((4,), 6), ((2, 4), 5), ((0, 1, 2), 9), ((1, 4, 7), 8)]


@pytest.mark.parametrize(("history", "step"), HISTORIES)
@pytest.mark.parametrize("ridge", [0.0, 1e-5, 0.1])
def test_weights_are_the_least_squares_of_the_residuals(history: tuple[int, ...], step: int, ridge: float) -> None:
    residuals = smooth(10)
    found, expected = (
        fit_weights(triangle(residuals), history, step, ridge),
        least_squares(residuals, history, step, ridge),
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    left = residuals[step] - expected @ residuals[list(history)]
    expected_error = (left**2).sum() / (residuals[step] ** 2).sum()
    assert fit_error(triangle(residuals), history, step, ridge) == pytest.approx(expected_error, rel=1e-5)


def test_runs_of_different_sizes_are_fitted_together() -> None:
    """Gram matrices add up: the fit over two runs is the fit over their residuals end to end."""
    one, two = smooth(10, seed=1), smooth(10, size=90, seed=2)
    both = [[a + b for a, b in zip(x, y, strict=True)] for x, y in zip(triangle(one), triangle(two), strict=True)]
    found = fit_weights(both, (0, 2, 5), 7, 1e-5)
    np.testing.assert_allclose(found, least_squares(np.hstack([one, two]), (0, 2, 5), 7, 1e-5), rtol=1e-5)


def test_one_residual_is_scaled_to_fit() -> None:
    residuals = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    assert fit_weights(triangle(residuals), (0,), 1, 0.0) == pytest.approx([2.0])
    assert fit_error(triangle(residuals), (0,), 1, 0.0) == pytest.approx(0.0, abs=1e-12)


def test_residuals_on_a_line_are_continued() -> None:
    a, b = smooth(2)
    line = np.stack([a + b * t for t in range(8)])
    assert fit_weights(triangle(line), (0, 2), 5, 1e-12) == pytest.approx([-1.5, 2.5], abs=1e-4)


@pytest.mark.parametrize("ridge", [0.0, 0.01])
def test_a_singular_gram_gives_the_forecast_where_it_leaves_a_choice(ridge: float) -> None:
    same = triangle(np.ones((6, 4)))
    assert fit_weights(same, (0, 1, 2), 4, ridge) == pytest.approx(extrapolated((0, 1, 2), 4), abs=1e-6)
    nothing = triangle(np.zeros((6, 4)))
    assert fit_weights(nothing, (0, 1, 2), 4, ridge) == pytest.approx(extrapolated((0, 1, 2), 4))
    assert fit_error(nothing, (0, 1, 2), 4, ridge) == 0
    assert find_best_schedule(nothing, 3, first=1, ridge=ridge)[-1] == 5


def test_a_strong_ridge_gives_the_forecast() -> None:
    residuals = smooth(8)
    for order in (1, 2):
        found = fit_weights(triangle(residuals), (1, 3, 4), 6, 1e6, order)
        np.testing.assert_allclose(found, extrapolated((1, 3, 4), 6, order), rtol=1e-4, atol=1e-5)


def test_only_the_skipped_residual_is_zero() -> None:
    """No relative error can be told: infinite for one, and a schedule computes that step if it may."""
    residuals = smooth(8)
    residuals[4] = 0
    assert fit_error(triangle(residuals), (0, 1), 4, 0.1) == float("inf")
    assert 4 in find_best_schedule(triangle(residuals), 4, first=2, ridge=0.1)


def test_a_step_of_no_importance_may_have_any_error() -> None:
    residuals = smooth(8)
    residuals[4] = 0
    gram, unimportant = triangle(residuals), [1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    found = find_best_schedule(gram, 4, first=2, ridge=0.1, importance=unimportant)
    assert 4 not in found and len(found) == 4


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 5), st.sampled_from([1e-8, 1.0, 1e8]), st.sampled_from([0.0, 1e-5, 0.01]))
def test_any_gram_gives_finite_weights_no_worse_than_the_forecast(
    seed: int, rank: int, scale: float, ridge: float
) -> None:
    generator = np.random.default_rng(seed)
    residuals = generator.normal(size=(6, rank)) @ generator.normal(size=(rank, 12)) * scale
    gram = triangle(residuals)
    found = fit_weights(gram, (0, 1, 3), 4, ridge)
    assert np.isfinite(found).all()
    forecast = extrapolated((0, 1, 3), 4) @ residuals[[0, 1, 3]]
    left = ((residuals[4] - forecast) ** 2).sum() / (residuals[4] ** 2).sum()
    assert fit_error(gram, (0, 1, 3), 4, ridge) <= left + 1e-7


def test_the_fit_keeps_weights_of_nearly_equal_residuals_small() -> None:
    """Neighbours that differ by noise alone: the forecast would add the noise up, a weak pull leaves it out."""
    generator = np.random.default_rng(0)
    steady = generator.normal(size=2000) + 1e-1 * generator.normal(size=(8, 2000))
    found, forecast = fit_weights(triangle(steady), (1, 2, 3), 5, 1e-5), extrapolated((1, 2, 3), 5)
    assert sum(found) == pytest.approx(1, abs=0.05)
    assert np.abs(found).max() < 0.5 < np.abs(forecast).max()


# The predictor


@pytest.mark.parametrize("history", [2, 3])
def test_the_predictor_weighs_the_last_computed_residuals(history: int) -> None:
    residuals = smooth(10)
    predictor = FittedPredictor(Fitted(gram=triangle(residuals), history=history))
    computed = [0, 1, 3, 6]
    found = played(predictor, lambda s: torch.from_numpy(residuals[s]).reshape(1, 20, 3), computed, 10)
    for step, tensor in found.items():
        past = tuple([s for s in computed if s < step][-history:])
        expected = least_squares(residuals, past, step, RIDGE) @ residuals[list(past)]
        np.testing.assert_allclose(tensor.numpy().ravel(), expected, rtol=1e-6, atol=1e-6)


def test_it_needs_a_calibration() -> None:
    with pytest.raises(ConfigError, match=r"cache\.predictor\.gram=null.*calibrat.*cache/predictor=taylor"):
        FittedPredictor(Fitted())


def test_another_number_of_steps_is_refused_at_the_first_one() -> None:
    predictor = FittedPredictor(Fitted(gram=triangle(smooth(10))))
    with pytest.raises(RunError, match=r"cache\.predictor\.gram.*10 steps.*has 12"):
        predictor.record_computed(at(0, 12), {"hidden_states": torch.ones(1)}, None)


def test_the_gram_goes_through_a_config() -> None:
    gram = triangle(smooth(5))
    merged = OmegaConf.merge(OmegaConf.structured(Fitted), {"gram": gram})
    assert OmegaConf.to_object(merged) == Fitted(gram=gram)


# Schedules


def cost(gram: list[list[float]], schedule: list[int], history: int, importance: list[float]) -> float:
    """Gap by gap: what its steps' errors add up to, squared."""
    total = 0.0
    for i, (begin, end) in enumerate(pairwise(schedule), 1):
        past = tuple(schedule[:i][-history:])
        total += sum(importance[s] * fit_error(gram, past, s) ** 0.5 for s in range(begin + 1, end)) ** 2
    return total


@pytest.mark.parametrize("history", [2, 3])
@pytest.mark.parametrize("first", [1, 2, 3, 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_no_schedule_is_better(history: int, first: int, weighted: bool) -> None:
    n = 10
    gram = triangle(smooth(n, size=8, seed=first))
    importance = np.random.default_rng(first).uniform(0.1, 3, size=n).tolist() if weighted else [1.0] * n
    for computed in range(first + 1, n + 1):
        found = find_best_schedule(
            gram, computed, first=first, history=history, importance=importance if weighted else None
        )
        assert len(found) == computed and found == sorted(set(found))
        assert found[:first] == list(range(first)) and found[-1] == n - 1
        least = min(
            cost(gram, [*range(first), *chosen, n - 1], history, importance)
            for chosen in combinations(range(first, n - 1), computed - first - 1)
        )
        assert cost(gram, found, history, importance) == pytest.approx(least, rel=1e-9, abs=1e-12)


def test_importance_draws_computed_steps() -> None:
    gram = triangle(smooth(20))
    early = find_best_schedule(gram, 8, first=2, importance=[100.0] * 10 + [1.0] * 10)
    late = find_best_schedule(gram, 8, first=2, importance=[1.0] * 10 + [100.0] * 10)
    assert sum(s < 10 for s in early) > sum(s < 10 for s in late)


def test_fifty_steps_take_less_than_two_seconds() -> None:
    gram = triangle(smooth(50))
    start = process_time()
    assert len(find_best_schedule(gram, 25, first=1)) == 25
    assert process_time() - start < 2


@pytest.mark.parametrize(("computed", "first"), [(3, 3), (11, 1), (2, 0)])
def test_impossible_schedules_are_refused(computed: int, first: int) -> None:
    with pytest.raises(ConfigError, match=rf"computed={computed}, first={first}.*10 steps"):
        find_best_schedule(triangle(smooth(10)), computed, first=first)
