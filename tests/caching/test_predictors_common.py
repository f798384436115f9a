"""What every predictor must do: dtypes, shapes, independence, a bounded history; and their options."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from tests.caching.sequences import at, play, random_sequence
from wavespeed_runner.caching.predictors.dmd import Dmd, DmdPredictor
from wavespeed_runner.caching.predictors.fitted import Fitted, FittedPredictor
from wavespeed_runner.caching.predictors.reuse import Gamma, GammaPredictor, Reuse, ReusePredictor
from wavespeed_runner.caching.predictors.step_weights import StepWeights, StepWeightsPredictor
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
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.registry import list_names, lookup

STEPS = 12
UNEVEN = (0, 1, 2, 4, 7, 8, 11)


def constant_gram(steps: int) -> list[list[float]]:
    """The Gram matrix of residuals that are all the same."""
    return [[1.0] * (i + 1) for i in range(steps)]


MAKE: dict[str, Callable[[], Any]] = {
    "reuse": lambda: ReusePredictor(Reuse()),
    "gamma": lambda: GammaPredictor(Gamma()),
    "taylor 1": lambda: TaylorPredictor(Taylor()),
    "taylor 2 sigma": lambda: TaylorPredictor(Taylor(order=2, variable=Variable.sigma)),
    "hermite": lambda: HermitePredictor(Hermite()),
    "foca": lambda: FocaPredictor(Foca()),
    "dmd": lambda: DmdPredictor(Dmd()),
    "fitted": lambda: FittedPredictor(Fitted(gram=constant_gram(STEPS))),
    "step_weights": lambda: StepWeightsPredictor(StepWeights(weights=[[]] + [[1.0]] * (STEPS - 1))),
}
every_predictor = pytest.mark.parametrize("make", MAKE.values(), ids=MAKE.keys())


@every_predictor
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_predictions_have_the_dtype_and_shape_of_the_residuals(make: Callable[[], Any], dtype: torch.dtype) -> None:
    predictor = make()
    shapes = {"hidden_states": (2, 5, 3), "encoder_hidden_states": (2, 4, 3)}
    for step in range(STEPS):
        signal = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(step)).to(dtype)
        if step in UNEVEN:
            predictor.record_computed(at(step, STEPS), {k: torch.randn(s).to(dtype) for k, s in shapes.items()}, signal)
        else:
            predicted = predictor.predict(at(step, STEPS), signal)
            assert {name: (tuple(t.shape), t.dtype) for name, t in predicted.items()} == {
                name: (shape, dtype) for name, shape in shapes.items()
            }
            assert all(torch.isfinite(tensor).all() for tensor in predicted.values())


@every_predictor
def test_with_one_computed_step_its_residual_is_reused(make: Callable[[], Any]) -> None:
    residual = random_sequence(1)[0]
    for tensor in play(make(), lambda _: residual, [0], STEPS, signals=lambda s: residual + s).values():
        torch.testing.assert_close(tensor, residual, rtol=1e-5, atol=0)


@every_predictor
def test_a_constant_residual_is_predicted_unchanged(make: Callable[[], Any]) -> None:
    residual = random_sequence(1)[0]
    for tensor in play(make(), lambda _: residual, UNEVEN, STEPS, signals=lambda _: residual).values():
        torch.testing.assert_close(tensor, residual, rtol=1e-5, atol=1e-6)


@every_predictor
def test_predictors_of_two_images_are_independent(make: Callable[[], Any]) -> None:
    one, other = random_sequence(STEPS, seed=1), random_sequence(STEPS, seed=2)
    alone = play(make(), one.__getitem__, UNEVEN, STEPS, signals=one.__getitem__)
    first, second = make(), make()
    for step in range(STEPS):
        if step in UNEVEN:
            first.record_computed(at(step, STEPS), {"hidden_states": one[step]}, one[step])
            second.record_computed(at(step, STEPS), {"hidden_states": other[step]}, other[step])
        else:
            second.predict(at(step, STEPS), other[step])
            assert torch.equal(first.predict(at(step, STEPS), one[step])["hidden_states"], alone[step])


@every_predictor
def test_the_history_is_bounded(make: Callable[[], Any]) -> None:
    """After many computed steps a predictor holds no more tensors than the longest history that an option allows."""
    predictor = make()
    if isinstance(predictor, FittedPredictor):
        predictor = FittedPredictor(Fitted(gram=constant_gram(60)))
    if isinstance(predictor, StepWeightsPredictor):
        predictor = StepWeightsPredictor(StepWeights(weights=[[], [1.0]] * 30))
    sequence = random_sequence(60)
    for step in range(60):
        predictor.record_computed(at(step, 60), {"hidden_states": sequence[step]}, sequence[step])
    held = {id(x) for x in sequence} & {id(x) for x in list_tensors(predictor)}
    assert 1 <= len(held) <= 6


def list_tensors(value: Any) -> list[torch.Tensor]:
    """All tensors that an object holds, at any depth."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in list_tensors(item)]
    if hasattr(value, "__dict__"):
        return list_tensors(vars(value))
    return (
        [tensor for item in value for tensor in list_tensors(item)] if isinstance(value, (list, tuple, deque)) else []
    )


@every_predictor
def test_a_residual_of_another_shape_restarts_the_history(make: Callable[[], Any]) -> None:
    predictor = make()
    for step in range(5):
        predictor.record_computed(at(step, STEPS), {"hidden_states": torch.randn(1, 7, 3)}, torch.randn(1, 7, 3))
    last = torch.randn(1, 5, 3)
    predictor.record_computed(at(5, STEPS), {"hidden_states": last}, torch.randn(1, 7, 3))
    predicted = predictor.predict(at(6, STEPS), torch.randn(1, 7, 3))["hidden_states"]
    assert predicted.shape == last.shape
    torch.testing.assert_close(predicted, last)


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
    # Taylor of order 2 on noise could exceed float16's range; 50 * 3 * (1 + 11 + 11 * 12) does not.
    for tensor in play(make(), sequence.__getitem__, {0, *computed}, STEPS, signals=sequence.__getitem__).values():
        assert tensor.shape == torch.Size(shape) and tensor.dtype == dtype
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("name", sorted(set(MAKE) - {"dmd"}))
def test_predicting_does_not_wait_for_the_device(name: str) -> None:
    """Tensors on `meta` have no values, so fetching one to the host fails."""
    predictor = MAKE[name]()
    for step in range(STEPS):
        residual, signal = (torch.empty(1, 5, 3, dtype=torch.bfloat16, device="meta") for _ in range(2))
        if step in UNEVEN:
            predictor.record_computed(at(step, STEPS), {"hidden_states": residual}, signal)
        else:
            assert predictor.predict(at(step, STEPS), signal)["hidden_states"].is_meta


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
def test_wrong_values_are_refused_with_their_key(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "cache" / "predictor").glob("*.yaml")))
def test_the_yaml_files_have_the_defaults_of_the_classes(name: str) -> None:
    options = lookup("cache/predictor", name).options
    values = dict(OmegaConf.load(CONF / "cache" / "predictor" / f"{name}.yaml"))
    del values["defaults"]
    assert OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), values)) == options()
    assert set(values) == set(vars(options())) - {"name"}


def test_every_built_in_predictor_has_a_yaml_file() -> None:
    files = {path.stem for path in (CONF / "cache" / "predictor").glob("*.yaml")}
    assert (
        {"reuse", "taylor", "hermite", "foca", "dmd", "gamma", "fitted"} <= files <= set(list_names("cache/predictor"))
    )
