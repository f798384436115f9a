"""Strategies on denoisers whose blocks are compiled one by one; and when they make the host wait for the device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest
import torch

from tests.caching.generate import ALWAYS, Generated, fbcache
from tests.caching.shrunk import Shrunk
from tests.caching.transfers import Transfers
from wavespeed_runner.caching import GenerationInfo, Trace, attach_strategy
from wavespeed_runner.caching.criteria.schedules import Interval
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, AccumulatedPolynomial, PredictedChange
from wavespeed_runner.caching.predictors.dmd import Dmd
from wavespeed_runner.caching.predictors.reuse import Gamma, Reuse
from wavespeed_runner.caching.predictors.taylor import Taylor
from wavespeed_runner.caching.signals.block_signals import FirstBlockOutput, ModelChange, ModulatedInput, NoSignal
from wavespeed_runner.caching.signals.sea import FilteredLatents
from wavespeed_runner.caching.strategies import Custom, NoCache
from wavespeed_runner.config.schema import CacheConfig
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.samplers.noise_levels import read_noise_levels
from wavespeed_runner.stages.attached import find_token_grid

STEPS = 8
MODELS = ("flux", "sdxl", "wan21", "sd35_medium")
"""Two lists of blocks; a U-Net, guided in one batch; guided in two calls; blocks that diffusers does not name."""


def schedule(predictor: Any, **window: Any) -> Custom:
    return Custom(signal=NoSignal(), criterion=Interval(interval=3), predictor=predictor, **window)


def measure_by(signal: Any, criterion: Any, predictor: Any) -> Custom:
    return Custom(signal=signal, criterion=criterion, predictor=predictor)


class Counter:
    """A backend for `torch.compile` that runs the graphs as they are, and counts them and their runs."""

    def __init__(self) -> None:
        self.graphs = 0
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: Any) -> Any:
        self.graphs += 1

        def run(*args: Any) -> Any:
            self.runs += 1
            return graph.forward(*args)

        return run


class Compiled(Shrunk):
    """A shrunk model whose repeated blocks are compiled on demand, as `compile_repeated_blocks` does.

    Not every denoiser of diffusers says which blocks these are.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, guided=True, steps=STEPS)
        kinds = getattr(self.denoiser, "_repeated_blocks", None) or ["JointTransformerBlock"]
        self.repeated = [module for module in self.denoiser.modules() if type(module).__name__ in kinds]
        self.backend = Counter()

    def generate(self, cache: CacheConfig) -> tuple[torch.Tensor, Trace]:
        info = GenerationInfo(steps=lambda: STEPS, sigmas=lambda: read_noise_levels(self.called.scheduler))
        with attach_strategy([self.denoiser], self.family.blocks, cache, info) as trace:
            return self.denoise(trace.end_step), trace

    @contextmanager
    def compile_blocks(self) -> Iterator[None]:
        for block in self.repeated:
            block.compile(fullgraph=True, backend=self.backend)
        try:
            yield
        finally:
            for block in self.repeated:
                block._compiled_call_impl = None
            torch._dynamo.reset()

    @contextmanager
    def calls(self) -> Iterator[list[int]]:
        """One entry for each call of a repeated block."""
        calls: list[int] = []
        handles = [
            block.register_forward_pre_hook(lambda *_, i=i: calls.append(i)) for i, block in enumerate(self.repeated)
        ]
        try:
            yield calls
        finally:
            for handle in handles:
                handle.remove()


@pytest.mark.parametrize("name", MODELS)
def test_compiled_blocks_stay_compiled_and_none_is_compiled_again(name: str) -> None:
    """Decisions are outside the graphs: no graph break (`fullgraph` raises), no recompile, the same latents."""
    model = Compiled(name)
    plain, eager = model.denoise(), []
    changes = [d.signal for d in model.generate(fbcache(0.0))[1].decisions if d.signal is not None]
    strategies = [fbcache(median(changes)), fbcache(ALWAYS), schedule(Reuse()), schedule(Taylor())]
    for cache in strategies:
        with model.calls() as calls:
            latents, trace = model.generate(cache)
        assert 0 < sum(d.computed for d in trace.decisions) < len(trace.decisions)
        eager.append((latents, len(calls)))

    with model.compile_blocks():
        assert torch.equal(model.denoise(), plain)
        graphs = model.backend.graphs
        assert graphs > 0
        with torch._dynamo.config.patch(error_on_recompile=True):
            for cache, (expected, runs) in zip(strategies, eager, strict=True):
                model.backend.runs = 0
                latents, _ = model.generate(cache)
                assert torch.equal(latents, expected)
                assert model.backend.runs == runs, "a skipped block ran, or a block ran that is not compiled"
        assert model.backend.graphs == graphs
    assert torch.equal(model.denoise(), plain)


MEASURING = {
    "fbcache": fbcache(0.5),
    "fbcache, all skipped": fbcache(ALWAYS),
    "fbcache, none skipped": fbcache(0.0),
    "teacache": measure_by(ModulatedInput(), AccumulatedPolynomial(threshold=0.5, coefficients=[1.0, 0.0]), Reuse()),
    "easycache": measure_by(ModelChange(), PredictedChange(threshold=0.5), Reuse()),
    "dicache": measure_by(FirstBlockOutput(), AccumulatedChange(threshold=0.5), Gamma()),
    "seacache": measure_by(FilteredLatents(), AccumulatedChange(threshold=0.5), Taylor()),
}
SCHEDULES = {
    "reuse": schedule(Reuse()),
    "taylor": schedule(Taylor(order=2)),
    "warm-up": schedule(Reuse(), warmup_steps=3),
}


def count_transfers(generated: Generated, cache: CacheConfig, steps: int = STEPS) -> tuple[int, list[Any]]:
    """Of one generation: how often the host waits for the device, and the decisions."""
    sigmas = [1 - step / steps for step in range(steps)]  # read once a generation, not counted here
    info = GenerationInfo(
        steps=lambda: steps, sigmas=lambda: sigmas, grid=lambda tokens: find_token_grid(tokens, (64, 64, None), 1)
    )
    with attach_strategy([generated.denoiser], FLUX.blocks, cache, info) as trace, Transfers() as transfers:
        generated.denoise(steps=steps, on_step=trace.end_step)
    return transfers.count, trace.decisions


@pytest.mark.parametrize("name", MEASURING)
@pytest.mark.parametrize("which", ["plain", "guided"])
def test_a_strategy_that_measures_waits_at_most_once_a_call(
    which: str, name: str, request: pytest.FixtureRequest
) -> None:
    generated = request.getfixturevalue(which)
    without, _ = count_transfers(generated, NoCache())
    count, decisions = count_transfers(generated, MEASURING[name])
    measured = sum(d.signal is not None for d in decisions)
    assert measured >= len(decisions) // 2
    assert count - without == measured


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_never_waits(name: str, plain: Generated) -> None:
    without, _ = count_transfers(plain, NoCache())
    count, decisions = count_transfers(plain, SCHEDULES[name])
    assert any(not d.computed for d in decisions)
    assert count == without


def test_dmd_waits_only_after_computed_steps(plain: Generated) -> None:
    cache = Custom(signal=NoSignal(), criterion=Interval(interval=2), predictor=Dmd())
    without, _ = count_transfers(plain, NoCache(), steps=12)
    count, decisions = count_transfers(plain, cache, steps=12)
    assert 0 < count - without <= sum(d.computed for d in decisions)


def test_images_of_a_batch_are_measured_in_one_transfer(plain: Generated) -> None:
    inputs: list[dict[str, Any]] = []
    handle = plain.denoiser.register_forward_pre_hook(lambda _, __, kwargs: inputs.append(kwargs), with_kwargs=True)
    plain.denoise(steps=STEPS)
    handle.remove()

    def double_rows(name: str, value: Any) -> Any:
        per_row = torch.is_tensor(value) and not name.endswith("_ids")
        return torch.cat([value, value * 0.9]) if per_row else value

    def count(cache: CacheConfig) -> tuple[int, Trace]:
        info = GenerationInfo(steps=lambda: STEPS, images=2)
        with (
            attach_strategy([plain.denoiser], FLUX.blocks, cache, info) as trace,
            torch.inference_mode(),
            Transfers() as transfers,
        ):
            for kwargs in inputs:
                plain.denoiser(**{name: double_rows(name, value) for name, value in kwargs.items()})
                trace.end_step()
        return transfers.count, trace

    without, _ = count(NoCache())
    transfers, trace = count(fbcache(0.5))
    assert len(trace.decisions) == 2 * STEPS
    assert transfers - without == STEPS - 1
