"""FoCa and DMD against float64 formulas, and against cache-dit if it is installed, where both mean the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.caching.sequences import at, play, random_sequence
from wavespeed_runner.caching.predictors.dmd import Dmd, DmdPredictor, continuation_weights, count_evenly_spaced
from wavespeed_runner.caching.predictors.taylor import Foca, FocaPredictor, Taylor, TaylorPredictor

STEPS = 14


def exponentials(step: float, modes: int = 3, size: int = 40, seed: int = 0) -> torch.Tensor:
    """A sum of a decay and a damped oscillation, on which DMD is exact. modes: real degrees of freedom; an oscillation
    takes two."""
    vectors = np.random.default_rng(seed).normal(size=(modes, size))
    decay, swing = [0.9**step], [0.95**step * np.cos(0.3 * step), 0.95**step * np.sin(0.3 * step)]
    rates = {1: decay, 2: swing, 3: decay + swing}[modes]
    return torch.from_numpy(sum(rate * vector for rate, vector in zip(rates, vectors, strict=True))).reshape(1, -1, 4)


def foca_in_float64(values: dict[int, np.ndarray], computed: list[int], step: int) -> np.ndarray:
    """Equations 6 to 8 with variable-step BDF2, term by term. values: of every earlier step, computed or predicted."""
    known = sorted(s for s in values if s < step)
    older, newer = known[-2:]
    f_older, f_newer = values[older], values[newer]
    h, h_before = step - newer, newer - older
    ratio = h / h_before
    slope = (f_newer - f_older) / h_before
    bdf2 = ((1 + ratio) ** 2 * f_newer - ratio**2 * f_older + h * (1 + ratio) * slope) / (1 + 2 * ratio)
    ahead = ((1 + 2 * ratio) * bdf2 - (1 + ratio) ** 2 * f_newer + ratio**2 * f_older) / (h * (1 + ratio))
    before, last = [s for s in computed if s < step][-2:]
    at_computed = (values[last] - values[before]) / (last - before)
    return f_newer + h / 2 * (at_computed + ahead)


@pytest.mark.parametrize("computed", [[0, 1, 2, 5, 9, 10], [0, 3, 6, 9, 12], [0, 2, 3, 11]])
def test_foca_follows_the_formula(computed: list[int]) -> None:
    sequence = random_sequence(STEPS)
    predicted = play(FocaPredictor(Foca()), sequence.__getitem__, computed, STEPS)
    values = {}
    for step in range(STEPS):
        if step in computed:
            values[step] = sequence[step].double().numpy()
        elif step > computed[1]:
            values[step] = foca_in_float64(values, computed, step)
            np.testing.assert_allclose(predicted[step].double().numpy(), values[step], rtol=1e-4, atol=1e-4)


def test_with_even_distances_the_prediction_is_the_published_one() -> None:
    """4/3 r_k - 1/3 r_(k-1) + 2/3 h r'_k with the slope of the last two values is the straight line through them."""
    r_older, r_newer = (x.double().numpy() for x in random_sequence(2))
    published = 4 / 3 * r_newer - 1 / 3 * r_older + 2 / 3 * (r_newer - r_older)
    sequence = [torch.from_numpy(r_older), torch.from_numpy(r_newer)]
    predicted = play(FocaPredictor(Foca()), sequence.__getitem__, [0, 1], 3)
    np.testing.assert_allclose(predicted[2].numpy(), published, rtol=1e-12)


@pytest.mark.parametrize("modes", [1, 2, 3])
@pytest.mark.parametrize("distance", [1, 3])
def test_dmd_is_exact_on_sums_of_exponentials(modes: int, distance: int) -> None:
    """Also between multiples of the distance, and far ahead. Four residuals determine three modes."""
    computed = [0, distance, 2 * distance, 3 * distance]
    predicted = play(DmdPredictor(Dmd()), lambda s: exponentials(s, modes), computed, 20)
    for step in range(computed[-1] + 1, 20):
        torch.testing.assert_close(predicted[step], exponentials(step, modes), rtol=1e-6, atol=1e-6)


def test_all_streams_form_one_vector() -> None:
    whole = [exponentials(step) for step in range(8)]
    split, joined = DmdPredictor(Dmd()), DmdPredictor(Dmd())
    for step in range(5):
        split.record_computed(at(step, 8), {"a": whole[step][:, :3], "b": whole[step][:, 3:]}, None)
        joined.record_computed(at(step, 8), {"a": whole[step]}, None)
    predicted, expected = split.predict(at(6, 8), None), joined.predict(at(6, 8), None)["a"]
    torch.testing.assert_close(torch.cat([predicted["a"], predicted["b"]], dim=1), expected)


def test_every_computed_step_is_used() -> None:
    """Whether or not steps were cached in between: nothing computed for those is reused later."""
    sequence, computed = random_sequence(STEPS), range(0, STEPS, 2)
    predicted = play(DmdPredictor(Dmd()), sequence.__getitem__, computed, STEPS)
    fresh = DmdPredictor(Dmd())
    for step in computed:
        fresh.record_computed(at(step, STEPS), {"hidden_states": sequence[step]}, None)
    assert torch.equal(predicted[STEPS - 1], fresh.predict(at(STEPS - 1, STEPS), None)["hidden_states"])


def test_with_fewer_than_four_evenly_spaced_residuals_it_is_taylor() -> None:
    sequence, computed = random_sequence(STEPS), (0, 1, 2, 4, 6, 9)
    predicted = play(DmdPredictor(Dmd()), sequence.__getitem__, computed, STEPS)
    expected = play(TaylorPredictor(Taylor(order=1)), sequence.__getitem__, computed, STEPS)
    for step in predicted:
        torch.testing.assert_close(predicted[step], expected[step], rtol=1e-5, atol=1e-5)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=10))
def test_evenly_spaced_positions_are_counted_from_the_end(gaps: list[int]) -> None:
    positions = [float(x) for x in np.cumsum([0, *gaps])]
    distance, count = count_evenly_spaced(positions)
    assert distance == gaps[-1]
    assert all(gap == distance for gap in gaps[len(gaps) - count + 1 :])
    assert count == len(positions) or gaps[len(gaps) - count] != distance


def propagate(snapshots: np.ndarray, ahead: int) -> np.ndarray:
    """x_m moved ahead by the operator Y X^+ itself, without eigenvalues. Snapshots are columns."""
    moved, operator = snapshots[:, -1], snapshots[:, 1:] @ np.linalg.pinv(snapshots[:, :-1])
    for _ in range(ahead):
        moved = operator @ moved
    return moved


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_dmd_is_the_least_squares_operator(ahead: int) -> None:
    """On random vectors, which no modes explain. (The operator's first step uses the part of x_m in the span of X.)"""
    snapshots = np.random.default_rng(3).normal(size=(30, 5))
    weights = continuation_weights((snapshots.T @ snapshots).tolist(), ahead, 1e-8)
    assert weights is not None
    np.testing.assert_allclose(snapshots @ weights, propagate(snapshots, ahead), rtol=1e-6, atol=1e-8)


def test_a_distance_of_zero_gives_the_last_residual() -> None:
    snapshots = np.random.default_rng(4).normal(size=(30, 6))
    weights = continuation_weights((snapshots.T @ snapshots).tolist(), 0.0, 1e-4)
    np.testing.assert_allclose(weights, [0, 0, 0, 0, 0, 1], atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0, 8), st.sampled_from([1e-6, 1.0, 1e6]))
def test_dependent_residuals_give_finite_weights(seed: int, rank: int, ahead: float, scale: float) -> None:
    generator = np.random.default_rng(seed)
    snapshots = generator.normal(size=(20, rank)) @ generator.normal(size=(rank, 6)) * scale
    weights = continuation_weights((snapshots.T @ snapshots).tolist(), ahead, 1e-4)
    assert weights is not None and np.isfinite(weights).all()


def test_zeros_and_nan_give_no_weights() -> None:
    assert continuation_weights(np.zeros((5, 5)).tolist(), 1.0, 1e-4) is None
    assert continuation_weights(np.full((5, 5), np.nan).tolist(), 1.0, 1e-4) is None


def test_rounding_of_the_dtype_is_not_taken_for_a_mode() -> None:
    """In bfloat16 a steady decay is predicted within rounding, although five of six directions are noise."""
    sequence = [(exponentials(step, 1, size=4000) * 3).bfloat16() for step in range(10)]
    predicted = play(DmdPredictor(Dmd()), sequence.__getitem__, range(6), 10)
    for step in range(6, 10):
        exact = exponentials(step, 1, size=4000) * 3
        assert ((predicted[step].double() - exact).norm() / exact.norm()) < 2**-8


def test_one_transfer_for_each_run_of_cached_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []
    original = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: transfers.append(1) or original(self))
    play(DmdPredictor(Dmd()), lambda s: exponentials(s), [0, 1, 2, 3, 4, 8], 12)
    assert len(transfers) == 1  # Steps 5 to 7; after 8 the distances are uneven.


def load_peer(name: str) -> Any:
    pytest.importorskip("cache_dit")
    from cache_dit.caching.cache_contexts.calibrators.dmd import DMDState
    from cache_dit.caching.cache_contexts.calibrators.foca import FoCaState

    return {"dmd": DMDState, "foca": FoCaState}[name]()


def play_peer(state: Any, sequence: list[torch.Tensor], computed: list[int]) -> dict[int, torch.Tensor]:
    predicted = {}
    for step, residual in enumerate(sequence):
        state.mark_step_begin()
        if step in computed:
            state.update(residual)
        else:
            predicted[step] = state.approximate()
    return predicted


@pytest.mark.parametrize("computed", [[0, 1, 2, 3, 4], [0, 1, 2, 4, 6, 8, 10], [0, 1, 2, 3, 6, 9, 12]])
def test_dmd_equals_cache_dits_where_that_does_not_fall_back(computed: list[int]) -> None:
    """Where it falls back, its Taylor divides the change over two computed steps by the distance of one."""
    sequence = [x.double() for x in random_sequence(STEPS)]
    expected = play_peer(load_peer("dmd"), sequence, computed)
    predicted = play(DmdPredictor(Dmd()), sequence.__getitem__, computed, STEPS)
    with_modes = [step for step in predicted if count_evenly_spaced([s for s in computed if s < step])[1] >= 4]
    assert with_modes
    for step in with_modes:
        torch.testing.assert_close(predicted[step], expected[step], rtol=1e-5, atol=1e-6)


def test_foca_equals_cache_dits_where_both_divide_by_one() -> None:
    """cache-dit does not divide differences by their distances and deviates after three steps; neither matters here."""
    sequence = [x.double() for x in random_sequence(STEPS)]
    computed = [0, 1, 2, 3, 5, 6, 9, 10]
    expected = play_peer(load_peer("foca"), sequence, computed)
    predicted = play(FocaPredictor(Foca()), sequence.__getitem__, computed, STEPS)
    for step in (4, 7, 8, 11, 12, 13):
        torch.testing.assert_close(predicted[step], expected[step], rtol=1e-10, atol=1e-10)
