"""Taylor, Hermite and gamma against float64 formulas and diffusers' TaylorSeer; what every predictor must keep to."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.hooks.taylorseer_cache import TaylorSeerState
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.caching.sequences import at, played, random_sequence
from wavespeed_runner.caching.predictors.dmd import Dmd, DmdPredictor
from wavespeed_runner.caching.predictors.fitted import Fitted, FittedPredictor
from wavespeed_runner.caching.predictors.reuse import Gamma, GammaPredictor, Reuse, ReusePredictor
from wavespeed_runner.caching.predictors.taylor import (
    Foca,
    FocaPredictor,
    Hermite,
    HermitePredictor,
    Taylor,
    TaylorPredictor,
    Variable,
)
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.registry import list_names, lookup

STEPS = 12
UNEVEN = (0, 1, 2, 4, 7, 8, 11)


def gram(steps: int) -> list[list[float]]:
    """Of residuals that are all the same."""
    return [[1.0] * (i + 1) for i in range(steps)]


MAKE: dict[str, Callable[[], Any]] = {
    "reuse": lambda: ReusePredictor(Reuse()),
    "gamma": lambda: GammaPredictor(Gamma()),
    "taylor 1": lambda: TaylorPredictor(Taylor()),
    "taylor 2 sigma": lambda: TaylorPredictor(Taylor(order=2, variable=Variable.sigma)),
    "hermite": lambda: HermitePredictor(Hermite()),
    "foca": lambda: FocaPredictor(Foca()),
    "dmd": lambda: DmdPredictor(Dmd()),
    "fitted": lambda: FittedPredictor(Fitted(gram=gram(STEPS))),
}
everyone = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


def wavy(step: int) -> float:
    """Noise levels as schedules have them: uneven, falling."""
    return 1 - (step / STEPS) ** 1.7


# What every predictor must keep to


@everyone
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_results_have_the_residuals_dtype_and_shape_for_every_stream(
    make: Callable[[], Any], dtype: torch.dtype
) -> None:
    predictor = make()
    shapes = {"hidden_states": (2, 5, 3), "encoder_hidden_states": (2, 4, 3)}
    for step in range(STEPS):
        signal = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(step)).to(dtype)
        if step in UNEVEN:
            predictor.record_computed(at(step, STEPS), {k: torch.randn(s).to(dtype) for k, s in shapes.items()}, signal)
        else:
            found = predictor.predict(at(step, STEPS), signal)
            assert {name: (tuple(t.shape), t.dtype) for name, t in found.items()} == {
                name: (shape, dtype) for name, shape in shapes.items()
            }
            assert all(torch.isfinite(tensor).all() for tensor in found.values())


@everyone
def test_with_one_computed_step_it_is_that_residual(make: Callable[[], Any]) -> None:
    residual = random_sequence(1)[0]
    for tensor in played(make(), lambda _: residual, [0], STEPS, seen=lambda s: residual + s).values():
        torch.testing.assert_close(tensor, residual, rtol=1e-5, atol=0)


@everyone
def test_what_does_not_change_is_predicted_to_stay(make: Callable[[], Any]) -> None:
    residual = random_sequence(1)[0]
    for tensor in played(make(), lambda _: residual, UNEVEN, STEPS, seen=lambda _: residual).values():
        torch.testing.assert_close(tensor, residual, rtol=1e-5, atol=1e-6)


@everyone
def test_predictors_of_two_images_know_nothing_of_each_other(make: Callable[[], Any]) -> None:
    one, other = random_sequence(STEPS, seed=1), random_sequence(STEPS, seed=2)
    alone = played(make(), one.__getitem__, UNEVEN, STEPS, seen=one.__getitem__)
    first, second = make(), make()
    for step in range(STEPS):
        if step in UNEVEN:
            first.record_computed(at(step, STEPS), {"hidden_states": one[step]}, one[step])
            second.record_computed(at(step, STEPS), {"hidden_states": other[step]}, other[step])
        else:
            second.predict(at(step, STEPS), other[step])
            assert torch.equal(first.predict(at(step, STEPS), one[step])["hidden_states"], alone[step])


@everyone
def test_the_history_is_bounded(make: Callable[[], Any]) -> None:
    """Predictors hold no more tensors after many computed steps than the longest history that an option allows."""
    predictor = make()
    if isinstance(predictor, FittedPredictor):
        predictor = FittedPredictor(Fitted(gram=gram(60)))
    sequence = random_sequence(60)
    for step in range(60):
        predictor.record_computed(at(step, 60), {"hidden_states": sequence[step]}, sequence[step])
    held = {id(x) for x in sequence} & {id(x) for x in _tensors(predictor)}
    assert 1 <= len(held) <= 6


def _tensors(thing: Any) -> list[torch.Tensor]:
    if isinstance(thing, torch.Tensor):
        return [thing]
    if isinstance(thing, dict):
        return [t for value in thing.values() for t in _tensors(value)]
    if hasattr(thing, "__dict__"):
        return _tensors(vars(thing))
    return [t for value in thing for t in _tensors(value)] if isinstance(thing, (list, tuple)) or _deque(thing) else []


def _deque(thing: Any) -> bool:
    return type(thing).__name__ == "deque"


@everyone
def test_a_residual_of_another_shape_starts_anew(make: Callable[[], Any]) -> None:
    predictor = make()
    for step in range(5):
        predictor.record_computed(at(step, STEPS), {"hidden_states": torch.randn(1, 7, 3)}, torch.randn(1, 7, 3))
    last = torch.randn(1, 5, 3)
    predictor.record_computed(at(5, STEPS), {"hidden_states": last}, torch.randn(1, 7, 3))
    found = predictor.predict(at(6, STEPS), torch.randn(1, 7, 3))["hidden_states"]
    assert found.shape == last.shape
    torch.testing.assert_close(found, last)


@settings(max_examples=40, deadline=None)
@given(
    make=st.sampled_from(list(MAKE.values())),
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
    computed=st.sets(st.integers(1, STEPS - 1)),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 50.0]),
)
def test_any_shape_and_schedule_gives_finite_numbers(
    make: Callable[[], Any], shape: list[int], dtype: torch.dtype, computed: set[int], scale: float
) -> None:
    sequence = [(x * scale).to(dtype) for x in random_sequence(STEPS, tuple(shape), seed=len(computed))]
    # Taylor of order 2 over noise may leave float16's range; 50 * 3 * (1 + 11 + 11 * 12) does not.
    for tensor in played(make(), sequence.__getitem__, {0, *computed}, STEPS, seen=sequence.__getitem__).values():
        assert tensor.shape == torch.Size(shape) and tensor.dtype == dtype
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", sorted(set(MAKE) - {"dmd"}))
def test_nothing_waits_for_the_device(name: str) -> None:
    """Tensors on `meta` have no values: whoever wants one on the host fails."""
    predictor = MAKE[name]()
    for step in range(STEPS):
        residual, signal = (torch.empty(1, 5, 3, dtype=torch.bfloat16, device="meta") for _ in range(2))
        if step in UNEVEN:
            predictor.record_computed(at(step, STEPS), {"hidden_states": residual}, signal)
        else:
            assert predictor.predict(at(step, STEPS), signal)["hidden_states"].is_meta


# Taylor


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("computed", [UNEVEN, (0, 3, 6, 9), (0, 1, 2, 3, 4)])
def test_taylor_in_steps_is_diffusers_taylorseer(order: int, computed: tuple[int, ...]) -> None:
    sequence = random_sequence(STEPS)
    found = played(TaylorPredictor(Taylor(order=order)), sequence.__getitem__, computed, STEPS)
    state = TaylorSeerState(taylor_factors_dtype=torch.float64, max_order=order)
    for step in range(STEPS):
        state.current_step = step
        if step in computed:
            state.update((sequence[step].double(),))
        else:
            (expected,) = state.predict()
            torch.testing.assert_close(found[step].double(), expected, rtol=1e-5, atol=1e-5)


def backward(values: list[np.ndarray], times: list[float], now: float, order: int) -> np.ndarray:
    """The same by explicit formulas in float64, for order 1 and 2."""
    delta = now - times[-1]
    d1 = (values[-1] - values[-2]) / (times[-1] - times[-2])
    if order == 1 or len(values) < 3:
        return values[-1] + d1 * delta
    d1_before = (values[-2] - values[-3]) / (times[-2] - times[-3])
    d2 = (d1 - d1_before) / (times[-1] - times[-2])
    return values[-1] + d1 * delta + d2 * delta**2 / 2


@pytest.mark.parametrize("order", [1, 2])
def test_taylor_in_sigma_is_the_formula_at_uneven_distances(order: int) -> None:
    sequence = random_sequence(STEPS)
    predictor = TaylorPredictor(Taylor(order=order, variable=Variable.sigma))
    found = played(predictor, sequence.__getitem__, UNEVEN, STEPS, sigmas=wavy)
    for step, tensor in found.items():
        past = [s for s in UNEVEN if s < step]
        expected = backward([sequence[s].double().numpy() for s in past], [wavy(s) for s in past], wavy(step), order)
        np.testing.assert_allclose(tensor.double().numpy(), expected, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("variable", list(Variable))
def test_taylor_is_exact_on_lines(order: int, variable: Variable) -> None:
    a, b = random_sequence(2)
    where = wavy if variable is Variable.sigma else float
    predictor = TaylorPredictor(Taylor(order=order, variable=variable))
    found = played(predictor, lambda s: a + b * where(s), UNEVEN, STEPS, sigmas=wavy)
    for step, tensor in found.items():
        if step > 1:
            torch.testing.assert_close(tensor, a + b * where(step), rtol=1e-4, atol=1e-4)


def test_taylor_of_order_2_has_the_curvature_of_a_parabola() -> None:
    """On c t^2 at even distances h d_1 = c (2t - h) and d_2 = 2c: the forecast lacks c h delta."""
    c = random_sequence(1)[0]
    found = played(TaylorPredictor(Taylor(order=2)), lambda s: c * s**2, (0, 3, 6), 9)
    for step in (7, 8):
        torch.testing.assert_close(found[step], c * step**2 - c * 3 * (step - 6), rtol=1e-5, atol=1e-4)


def test_taylor_takes_the_newer_of_two_calls_at_one_noise_level() -> None:
    a, b = random_sequence(2)
    predictor = TaylorPredictor(Taylor(variable=Variable.sigma))
    for step, (sigma, shift) in enumerate([(1.0, 0.0), (0.8, 5.0), (0.8, 0.0)]):
        predictor.record_computed(at(step, 6, sigma), {"hidden_states": a + b * sigma + shift}, None)
    torch.testing.assert_close(predictor.predict(at(3, 6, 0.5), None)["hidden_states"], a + b * 0.5)


def test_differences_of_bfloat16_are_not_taken_in_bfloat16() -> None:
    generator = torch.Generator().manual_seed(0)
    sequence = [(10 + 0.3 * torch.randn(1, 64, 8, generator=generator)).bfloat16() for _ in range(3)]
    found = played(TaylorPredictor(Taylor(order=2)), sequence.__getitem__, (0, 1, 2), 6)
    for step in (3, 4, 5):
        expected = backward([x.double().numpy() for x in sequence], [0, 1, 2], step, 2)
        assert torch.equal(found[step], torch.from_numpy(expected).float().bfloat16())


# Hermite


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_hermite_is_the_formula_with_numpys_polynomials(order: int) -> None:
    sequence, scale = random_sequence(STEPS), 0.5
    found = played(HermitePredictor(Hermite(order=order, scale=scale)), sequence.__getitem__, UNEVEN, STEPS)
    for step, tensor in found.items():
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


def test_hermite_of_order_1_is_taylor_at_the_root_of_a_half() -> None:
    sequence = random_sequence(STEPS)
    found = played(HermitePredictor(Hermite(order=1, scale=0.5**0.5)), sequence.__getitem__, UNEVEN, STEPS)
    expected = played(TaylorPredictor(Taylor(order=1)), sequence.__getitem__, UNEVEN, STEPS)
    for step in found:
        torch.testing.assert_close(found[step], expected[step], rtol=1e-5, atol=1e-5)


# Gamma


def test_gamma_is_the_formula() -> None:
    residuals, signals = random_sequence(STEPS, seed=1), random_sequence(STEPS, seed=2)
    # A signal that moves on steadily, so that g lies inside its bounds at some steps and at them at others.
    moving = [sum(signals[: s + 1], torch.zeros(())) * (0.3 if s % 3 else 1.0) for s in range(STEPS)]
    found = played(GammaPredictor(Gamma()), residuals.__getitem__, UNEVEN, STEPS, seen=moving.__getitem__)
    inside = 0
    for step, tensor in found.items():
        two, one = [s for s in UNEVEN if s < step][-2:]
        p, p1, p2 = (moving[s].double().numpy() for s in (step, one, two))
        g = float(np.clip(np.abs(p - p2).mean() / np.abs(p1 - p2).mean(), 1, 1.5))
        inside += 1 < g < 1.5
        r1, r2 = residuals[one].double().numpy(), residuals[two].double().numpy()
        np.testing.assert_allclose(tensor.double().numpy(), r2 + g * (r1 - r2), rtol=1e-5, atol=1e-5)
    assert inside


def test_gamma_needs_a_signal() -> None:
    with pytest.raises(RunError, match=r"cache\.predictor=gamma.*first_block_residual"):
        GammaPredictor(Gamma()).record_computed(at(0, 4), {"hidden_states": torch.ones(1)}, None)


# Options


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Taylor(order=0), r"cache\.predictor\.order=0.*1, 2.*reuse"),
        (lambda: Taylor(order=3), r"cache\.predictor\.order=3"),
        (lambda: Hermite(order=5), r"cache\.predictor\.order=5.*1 to 4"),
        (lambda: Hermite(scale=0), r"cache\.predictor\.scale=0"),
        (lambda: Hermite(scale=float("nan")), r"cache\.predictor\.scale=nan"),
        (lambda: Dmd(history=3), r"cache\.predictor\.history=3.*4 to 16"),
        (lambda: Dmd(tolerance=0), r"cache\.predictor\.tolerance=0"),
        (lambda: Gamma(limit=0.5), r"cache\.predictor\.limit=0\.5"),
        (lambda: Fitted(history=4), r"cache\.predictor\.history=4.*2, 3"),
        (lambda: Fitted(ridge=-1), r"cache\.predictor\.ridge=-1"),
        (lambda: Fitted(gram=[[1.0], [1.0]]), r"cache\.predictor\.gram: row 1 must have 2"),
        (lambda: Fitted(gram=[[float("nan")]]), r"cache\.predictor\.gram: row 0"),
        (lambda: Fitted(gram=[[-1.0]]), r"cache\.predictor\.gram: row 0"),
    ],
)
def test_wrong_values_are_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "cache" / "predictor").glob("*.yaml")))
def test_the_yaml_files_hold_the_defaults(name: str) -> None:
    options = lookup("cache/predictor", name).options
    given = {
        k: v for k, v in dict(OmegaConf.load(CONF / "cache" / "predictor" / f"{name}.yaml")).items() if k != "defaults"
    }
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), given)) == options()
    assert set(given) == set(vars(options())) - {"name"}


def test_every_predictor_of_ours_has_its_file() -> None:
    files = {path.stem for path in (CONF / "cache" / "predictor").glob("*.yaml")}
    assert (
        {"reuse", "taylor", "hermite", "foca", "dmd", "gamma", "fitted"} <= files <= set(list_names("cache/predictor"))
    )
