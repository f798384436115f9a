"""Attaches strategies to shrunk models of every family, and compares what they generate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tests.caching.generate import ALWAYS
from tests.caching.tiny_models import STEPS, Call, TinyModel
from wavespeed_runner.caching import GenerationInfo, Trace, attach_strategy
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, RelativeChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import (
    FirstBlockOutput,
    FirstBlockResidual,
    ModulatedInput,
    NoSignal,
)
from wavespeed_runner.config.schema import CacheConfig, PartConfig


def build_strategy(signal: PartConfig, criterion: PartConfig, tail_blocks: int = 0) -> CacheConfig:
    return CacheConfig(name="custom", signal=signal, criterion=criterion, predictor=Reuse(), tail_blocks=tail_blocks)


REUSING = {
    "residual": build_strategy(FirstBlockResidual(), RelativeChange(threshold=ALWAYS)),
    "residual, tail": build_strategy(FirstBlockResidual(), RelativeChange(threshold=ALWAYS), 1),
    "residual of three": build_strategy(FirstBlockResidual(blocks=3), RelativeChange(threshold=ALWAYS)),
    "output of two, tail": build_strategy(FirstBlockOutput(blocks=2), AccumulatedChange(threshold=ALWAYS), 1),
    "modulated input": build_strategy(ModulatedInput(), AccumulatedChange(threshold=ALWAYS)),
    "schedule": build_strategy(NoSignal(), Steps(computed=[1])),
    "schedule, tail": build_strategy(NoSignal(), Steps(computed=[1]), 1),
}
"""Strategies that reuse at the second call with the same input."""


@contextmanager
def attach(tiny: TinyModel, cache: CacheConfig, steps: int = STEPS) -> Iterator[Trace]:
    with attach_strategy(tiny.denoisers, tiny.blocks, cache, GenerationInfo(steps=lambda: steps)) as trace:
        yield trace


@contextmanager
def record_blocks(tiny: TinyModel, denoiser: torch.nn.Module) -> Iterator[list[int]]:
    """Indices of the blocks that run while the context is open."""
    ran: list[int] = []
    blocks = tiny.list_blocks(denoiser)
    handles = [b.register_forward_pre_hook(lambda *_, i=i: ran.append(i)) for i, b in enumerate(blocks)]
    yield ran
    for handle in handles:
        handle.remove()


def list_tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in values.values() if isinstance(value, torch.Tensor)]


def are_equal(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def find_first_calls(tiny: TinyModel) -> list[Call]:
    """The first call of each denoiser."""
    return [next(call for call in tiny.calls if call.denoiser is denoiser) for denoiser in tiny.denoisers]
