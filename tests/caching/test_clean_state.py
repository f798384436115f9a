"""No generation sees the state of another: whatever ran before, beside or inside it, its bits are a fresh model's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.caching.loaded_models import CACHES, MODELS, SETTINGS, Model, at_call, is_fresh, run_fresh, share_model


@pytest.mark.parametrize("name", MODELS)
def test_strengths_sizes_steps_batches_and_strategies_one_after_the_other(name: str) -> None:
    model = share_model(name)
    for setting in filter(model.fits, SETTINGS):
        for cache in CACHES:
            assert is_fresh(model.run(CACHES[cache], setting), name, cache, setting), (setting, cache)
    for cache in set(CACHES) - {"none"}:
        assert not all(run_fresh(name, cache)[1]), "the strategy skips nothing, and the test shows nothing"
        assert not torch.equal(run_fresh(name, cache)[0], run_fresh(name, "none")[0])
    if model.fits("near"):
        more = name == "demo_unet"  # its sampler, PNDM, makes one call more
        assert [len(run_fresh(name, "signal", setting)[1]) for setting in ("near", "far")] == [4 + more, 8 + more]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("cache", ["signal", "model", "schedule"])
@pytest.mark.parametrize("name", MODELS)
def test_an_exception_in_the_middle(name: str, cache: str, error: type[BaseException]) -> None:
    """Raised in a step that is computed after skipped ones, in the second guidance branch where there is one.

    Half of the state is then of this step, half of the previous one.
    """
    model = share_model(name)
    scheduler = model.pipe.scheduler
    branches = 2 if name in ("wan21", "wan22", "chroma") else 1
    computed = [i for i, is_computed in enumerate(run_fresh(name, cache)[1]) if is_computed]
    step = next(i for i in computed if i > 1)
    inside = [list(denoiser.modules())[-1] for denoiser in model.denoisers]  # after the blocks

    def fail() -> None:
        raise error

    with at_call(inside, step * branches + branches - 1, fail) as calls, pytest.raises(error):
        model.run(CACHES[cache])
    assert len(calls) == step * branches + branches
    assert model.pipe.scheduler is scheduler
    assert is_fresh(model.run(CACHES[cache]), name, cache)
    assert is_fresh(model.run(CACHES["none"]), name, "none")


@pytest.mark.parametrize(
    ("outer", "inner"), [("wan21", "chroma"), ("chroma", "demo_unet"), ("demo_unet", "wan22"), ("wan22", "sd35_medium")]
)
@pytest.mark.parametrize(("cache", "other"), [("signal", "schedule"), ("model", "signal"), ("schedule", "model")])
def test_a_generation_inside_another_one(outer: str, inner: str, cache: str, other: str) -> None:
    """Two pipelines with different strategies, both in the middle of their steps."""
    inner_results: list[tuple[torch.Tensor, list[dict[str, Any]]]] = []
    with at_call(share_model(outer).denoisers, 3, lambda: inner_results.append(share_model(inner).run(CACHES[other]))):
        outer_result = share_model(outer).run(CACHES[cache])
    assert len(inner_results) == 1
    assert is_fresh(inner_results[0], inner, other)
    assert is_fresh(outer_result, outer, cache)


def test_two_of_one_kind_with_two_strategies() -> None:
    one, two = share_model("chroma"), Model("chroma")
    inner_results: list[tuple[torch.Tensor, list[dict[str, Any]]]] = []
    with at_call(one.denoisers, 5, lambda: inner_results.append(two.run(CACHES["model"]))):
        assert is_fresh(one.run(CACHES["signal"]), "chroma", "signal")
    assert is_fresh(inner_results[0], "chroma", "model")
