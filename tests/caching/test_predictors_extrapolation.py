"""Taylor, Hermite and gamma predictors against float64 formulas and diffusers' TaylorSeer."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers.hooks.taylorseer_cache import TaylorSeerState

from tests.caching.sequences import at, play, random_sequence
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange
from wavespeed_runner.caching.predictors.reuse import Gamma, GammaPredictor
from wavespeed_runner.caching.predictors.taylor import Hermite, HermitePredictor, Taylor, TaylorPredictor, Variable
from wavespeed_runner.caching.signals.block_signals import FirstBlockOutput
from wavespeed_runner.caching.strategies import DiCache
from wavespeed_runner.errors import RunError

STEPS = 12
UNEVEN = (0, 1, 2, 4, 7, 8, 11)


def uneven_sigma(step: int) -> float:
    """Falling, unevenly spaced noise levels, as schedules have them."""
    return 1 - (step / STEPS) ** 1.7


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("computed", [UNEVEN, (0, 3, 6, 9), (0, 1, 2, 3, 4)])
def test_taylor_in_steps_equals_diffusers_taylorseer(order: int, computed: tuple[int, ...]) -> None:
    sequence = random_sequence(STEPS)
    predicted = play(TaylorPredictor(Taylor(order=order)), sequence.__getitem__, computed, STEPS)
    state = TaylorSeerState(taylor_factors_dtype=torch.float64, max_order=order)
    for step in range(STEPS):
        state.current_step = step
        if step in computed:
            state.update((sequence[step].double(),))
        else:
            (expected,) = state.predict()
            torch.testing.assert_close(predicted[step].double(), expected, rtol=1e-5, atol=1e-5)


def extrapolate_in_float64(values: list[np.ndarray], times: list[float], now: float, order: int) -> np.ndarray:
    """Taylor extrapolation by explicit formulas in float64, for order 1 and 2."""
    delta = now - times[-1]
    d1 = (values[-1] - values[-2]) / (times[-1] - times[-2])
    if order == 1 or len(values) < 3:
        return values[-1] + d1 * delta
    d1_before = (values[-2] - values[-3]) / (times[-2] - times[-3])
    d2 = (d1 - d1_before) / (times[-1] - times[-2])
    return values[-1] + d1 * delta + d2 * delta**2 / 2


@pytest.mark.parametrize("order", [1, 2])
def test_taylor_in_sigma_follows_the_formula_at_uneven_distances(order: int) -> None:
    sequence = random_sequence(STEPS)
    predictor = TaylorPredictor(Taylor(order=order, variable=Variable.sigma))
    predicted = play(predictor, sequence.__getitem__, UNEVEN, STEPS, sigmas=uneven_sigma)
    for step, tensor in predicted.items():
        past = [s for s in UNEVEN if s < step]
        expected = extrapolate_in_float64(
            [sequence[s].double().numpy() for s in past], [uneven_sigma(s) for s in past], uneven_sigma(step), order
        )
        np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("variable", list(Variable))
def test_taylor_is_exact_on_lines(order: int, variable: Variable) -> None:
    a, b = random_sequence(2)
    where = uneven_sigma if variable is Variable.sigma else float
    predictor = TaylorPredictor(Taylor(order=order, variable=variable))
    predicted = play(predictor, lambda s: a + b * where(s), UNEVEN, STEPS, sigmas=uneven_sigma)
    for step, tensor in predicted.items():
        if step > 1:
            torch.testing.assert_close(tensor, a + b * where(step), rtol=1e-4, atol=1e-4)


def test_taylor_of_order_2_has_the_curvature_of_a_parabola() -> None:
    """On c t^2 with even distances h, d_1 = c (2t - h) and d_2 = 2c: the prediction lacks c h delta."""
    c = random_sequence(1)[0]
    predicted = play(TaylorPredictor(Taylor(order=2)), lambda s: c * s**2, (0, 3, 6), 9)
    for step in (7, 8):
        torch.testing.assert_close(predicted[step], c * step**2 - c * 3 * (step - 6), rtol=1e-5, atol=1e-4)


def test_taylor_uses_the_newer_of_two_calls_at_one_noise_level() -> None:
    a, b = random_sequence(2)
    predictor = TaylorPredictor(Taylor(variable=Variable.sigma))
    for step, (sigma, shift) in enumerate([(1.0, 0.0), (0.8, 5.0), (0.8, 0.0)]):
        predictor.record_computed(at(step, 6, sigma), {"hidden_states": a + b * sigma + shift}, None)
    torch.testing.assert_close(predictor.predict(at(3, 6, 0.5), None)["hidden_states"], a + b * 0.5)


def test_differences_of_bfloat16_residuals_are_computed_in_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    sequence = [(10 + 0.3 * torch.randn(1, 64, 8, generator=generator)).bfloat16() for _ in range(3)]
    predicted = play(TaylorPredictor(Taylor(order=2)), sequence.__getitem__, (0, 1, 2), 6)
    for step in (3, 4, 5):
        expected = extrapolate_in_float64([x.double().numpy() for x in sequence], [0, 1, 2], step, 2)
        assert torch.equal(predicted[step], torch.from_numpy(expected).float().bfloat16())


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_hermite_follows_the_formula_with_numpys_polynomials(order: int) -> None:
    sequence, scale = random_sequence(STEPS), 0.5
    predicted = play(HermitePredictor(Hermite(order=order, scale=scale)), sequence.__getitem__, UNEVEN, STEPS)
    for step, tensor in predicted.items():
        past = [s for s in UNEVEN if s < step]
        levels = {s: [sequence[s].double().numpy()] for s in past}
        for before, s in pairwise(past):
            for i in range(min(order, len(levels[before]))):
                levels[s].append((levels[s][i] - levels[before][i]) / (s - before))
        expected = 0.0
        for i, derivative in enumerate(levels[past[-1]]):
            h = np.polynomial.hermite.hermval(scale * (step - past[-1]), [0] * i + [1])
            expected = expected + derivative * scale**i * h / np.prod(range(1, i + 1), dtype=float)
        np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_hermite_of_order_1_with_scale_sqrt_half_equals_taylor() -> None:
    sequence = random_sequence(STEPS)
    predicted = play(HermitePredictor(Hermite(order=1, scale=0.5**0.5)), sequence.__getitem__, UNEVEN, STEPS)
    expected = play(TaylorPredictor(Taylor(order=1)), sequence.__getitem__, UNEVEN, STEPS)
    for step in predicted:
        torch.testing.assert_close(predicted[step], expected[step], rtol=1e-5, atol=1e-5)


def test_gamma_follows_the_formula() -> None:
    residuals, signals = random_sequence(STEPS, seed=1), random_sequence(STEPS, seed=2)
    # The signal moves steadily, so that g is inside its bounds at some steps and at a bound at others.
    moving = [sum(signals[: s + 1], torch.zeros(())) * (0.3 if s % 3 else 1.0) for s in range(STEPS)]
    predicted = play(GammaPredictor(Gamma()), residuals.__getitem__, UNEVEN, STEPS, signals=moving.__getitem__)
    inside = 0
    for step, tensor in predicted.items():
        two, one = [s for s in UNEVEN if s < step][-2:]
        p, p1, p2 = (moving[s].double().numpy() for s in (step, one, two))
        g = float(np.clip(np.abs(p - p2).mean() / np.abs(p1 - p2).mean(), 1, 1.5))
        inside += 1 < g < 1.5
        r1, r2 = residuals[one].double().numpy(), residuals[two].double().numpy()
        np.testing.assert_allclose(tensor.double().numpy(), r2 + g * (r1 - r2), rtol=1e-5, atol=1e-5)
    assert inside


def test_gamma_follows_what_the_first_block_adds(plain) -> None:
    """DiCache watches the first block's output, and extrapolates by its residual."""
    probes, heads, ends = [], [], []

    def record_head(_, args, kwargs, out):
        heads.append(out[1].double().numpy())
        probes.append(heads[-1] - kwargs["hidden_states"].double().numpy())

    handles = [
        plain.denoiser.transformer_blocks[0].register_forward_hook(record_head, with_kwargs=True),
        plain.denoiser.norm_out.register_forward_pre_hook(lambda _, args: ends.append(args[0].double().numpy())),
    ]
    parts = {"signal": FirstBlockOutput(), "criterion": AccumulatedChange(threshold=1e9), "predictor": Gamma(limit=9.0)}
    try:
        _, trace = plain.run(DiCache(**parts, warmup_steps=2, max_consecutive_cache_hits=2), steps=8)
    finally:
        for handle in handles:
            handle.remove()
    assert [d.computed for d in trace.decisions] == [True, True, False, False, True, False, False, True]
    gammas = []
    for step, (one, two) in {2: (1, 0), 3: (1, 0), 5: (4, 1), 6: (4, 1)}.items():
        moved = [np.abs(probes[s] - probes[two]).mean() for s in (step, one)]
        gammas.append(float(np.clip(moved[0] / moved[1], 1, 9)))
        r1, r2 = (ends[s] - heads[s] for s in (one, two))
        expected = heads[step] + r2 + gammas[-1] * (r1 - r2)
        np.testing.assert_allclose(ends[step], expected, rtol=2e-4, atol=2e-4)
    assert any(1 < gamma < 9 for gamma in gammas)


def test_gamma_needs_a_signal() -> None:
    with pytest.raises(RunError, match=r"cache\.predictor=gamma.*first_block_residual"):
        GammaPredictor(Gamma()).record_computed(at(0, 4), {"hidden_states": torch.ones(1)}, None)
