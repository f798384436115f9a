"""Cache strategies on several ranks: one decision for all, and the one that a single process makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import pytest
import torch

from tests.accelerate.parallel.forked import run_on_ranks
from tests.caching.shrunk import Shrunk
from wavespeed_runner.accelerate.parallel.apply import apply_parallel
from wavespeed_runner.accelerate.parallel.collectives import take_counts
from wavespeed_runner.accelerate.parallel.options import (
    CfgOptions,
    ContextParallelOptions,
    ParallelOptions,
    UnifiedOptions,
)
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.criteria.magnitude_ratio import MagnitudeRatio
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, PredictedChange, RelativeChange
from wavespeed_runner.caching.predictors.dmd import Dmd
from wavespeed_runner.caching.predictors.reuse import Gamma, Reuse
from wavespeed_runner.caching.predictors.taylor import Taylor
from wavespeed_runner.caching.signals.block_signals import (
    FirstBlockOutput,
    FirstBlockResidual,
    ModelChange,
    ModulatedInput,
    NoSignal,
)
from wavespeed_runner.caching.signals.sea import FilteredLatents
from wavespeed_runner.config.schema import CacheConfig, PartConfig

pytestmark = pytest.mark.slow
STEPS = 8


def build(signal: PartConfig, criterion: PartConfig, predictor: PartConfig, **options: Any) -> CacheConfig:
    return CacheConfig(name="custom", signal=signal, criterion=criterion, predictor=predictor, **options)


STRATEGIES = {
    "fbcache": build(FirstBlockResidual(), RelativeChange(threshold=0.0), Reuse()),
    "output": build(FirstBlockOutput(), RelativeChange(threshold=0.0), Taylor()),
    "teacache": build(ModulatedInput(), AccumulatedChange(threshold=0.0), Reuse()),
    "easycache": build(ModelChange(), PredictedChange(threshold=0.0), Reuse()),
    "seacache": build(FilteredLatents(), AccumulatedChange(threshold=0.0), Reuse()),
    "schedule": build(NoSignal(), Steps(computed=[1, 2, 4, 6]), Taylor()),
    "dmd": build(NoSignal(), Steps(computed=[1, 2, 3, 4, 6]), Dmd()),
    "dicache": build(FirstBlockOutput(), Steps(computed=[1, 2, 4, 6]), Gamma()),
}
"""Of every kind of signal and predictor that looks at tokens. Thresholds are filled in."""


PARALLEL: dict[str, ParallelOptions] = {
    "flux": ContextParallelOptions(name="ulysses", degree=2),
    "wan21": UnifiedOptions(name="unified"),
}


@dataclass(frozen=True)
class Outcome:
    """What a strategy did."""

    computed: list[bool]
    signals: list[float | None]
    latents: torch.Tensor
    messages: dict[str, dict[str, int]]


@lru_cache
def shrunk(name: str) -> Shrunk:
    return Shrunk(name, guided=True, steps=STEPS)


def generate(name: str, cache: CacheConfig, parallel: ParallelOptions | None = None, *, alone: bool = False) -> Outcome:
    """alone: each rank decides by its own tokens, as a strategy would that knows of no ranks."""
    model = shrunk(name)
    size = (model.options["width"], model.options["height"], model.options.get("num_frames"))
    from wavespeed_runner.stages.attached import find_token_grid

    info = GenerationInfo(
        steps=lambda: STEPS,
        flow=model.family.schedule == "flow",
        grid=lambda tokens: find_token_grid(tokens, size, model.family.frame_multiple),
    )
    divided = apply_parallel(model.pipe, model.family, parallel) if parallel else None
    if divided and not alone:
        info = replace(info, add_up=divided.add_up, first_branch=divided.find_first_branch)
    with attach_strategy([model.denoiser], model.family.blocks, cache, info) as trace:
        if divided:
            with divided.divide([model.denoiser], 1):
                latents = model.denoise(trace.end_step)
        else:
            latents = model.denoise(trace.end_step)
    return Outcome([d.computed for d in trace.decisions], [d.signal for d in trace.decisions], latents, take_counts())


def choose_threshold(cache: CacheConfig, name: str) -> CacheConfig:
    """The strategy with a threshold at which some steps are computed and some are not."""
    assert cache.criterion
    if not hasattr(cache.criterion, "threshold"):
        return cache
    levels = sorted(signal for signal in generate(name, cache).signals if signal is not None)
    for threshold in (levels[len(levels) // 2] * factor for factor in (1.01, 2.5, 4.0, 8.0)):
        tried = replace(cache, criterion=replace(cache.criterion, threshold=threshold))
        computed = generate(name, tried).computed
        if computed.count(False) > 2 and computed.count(True) > 2:
            return tried
    raise AssertionError("no threshold reuses some steps")


@pytest.mark.parametrize(
    ("name", "strategy"),
    [*(("flux", strategy) for strategy in STRATEGIES), ("wan21", "fbcache"), ("wan21", "teacache"), ("wan21", "dmd")],
)
def test_all_ranks_decide_as_one_process(name: str, strategy: str) -> None:
    parallel = PARALLEL[name]
    cache = choose_threshold(STRATEGIES[strategy], name)
    expected = generate(name, cache)
    assert 0 < expected.computed.count(False) < len(expected.computed)
    ranks = 2 if parallel.name == "ulysses" else 4
    for outcome in run_on_ranks(ranks, lambda: generate(name, cache, parallel)):
        assert outcome.computed == expected.computed
        for ours, theirs in zip(outcome.signals, expected.signals, strict=True):
            assert (ours is None) == (theirs is None)
            assert ours is None or theirs is None or ours == pytest.approx(theirs, rel=1e-4)
        assert (outcome.latents - expected.latents).norm() < 1e-5 * expected.latents.norm()
        assert ("decision" in outcome.messages) == (strategy != "schedule"), "schedules need none"


def test_a_rank_with_one_guidance_branch_knows_which() -> None:
    drift = [1.0, *[1.1] * (STEPS - 1)]
    ratios = MagnitudeRatio(threshold=0.5, ratios=drift, ratios_uncond=[1.0, *[2.0] * (STEPS - 1)])
    cache = build(NoSignal(), ratios, Reuse())
    both = generate("wan21", cache).computed
    assert both[1::2] == [True] * STEPS and 1 < both[::2].count(True) < STEPS
    first, second = run_on_ranks(2, lambda: generate("wan21", cache, CfgOptions(name="cfg")))
    assert (first.computed, second.computed) == (both[::2], both[1::2])


def test_a_threshold_at_which_ranks_alone_would_disagree() -> None:
    """diffusers' First Block Cache hangs there: one rank skips its blocks, the other waits for its message."""
    parallel, watching = PARALLEL["flux"], STRATEGIES["fbcache"]  # computes every step
    first, second = (o.signals for o in run_on_ranks(2, lambda: generate("flux", watching, parallel, alone=True)))
    gaps = {step: (a + b) / 2 for step, (a, b) in enumerate(zip(first, second, strict=True)) if a and b and a != b}
    assert len(gaps) == STEPS - 1
    for step, threshold in list(gaps.items())[::3]:
        assert first[step] is not None and second[step] is not None
        assert (first[step] < threshold) != (second[step] < threshold), "one rank alone would skip, the other would not"
        cache = replace(watching, criterion=RelativeChange(threshold=threshold))
        expected = generate("flux", cache)
        for outcome in run_on_ranks(2, lambda cache=cache: generate("flux", cache, parallel)):  # type: ignore[misc]
            assert outcome.computed == expected.computed
