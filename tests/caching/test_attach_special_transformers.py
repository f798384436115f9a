"""Strategies on special transformers: with counted blocks, more passes, two denoisers, guidance that ends early."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tests.caching.attach_tiny import (
    REUSING,
    are_equal,
    attach,
    build_strategy,
    list_tensors,
)
from tests.caching.generate import ALWAYS, fbcache
from tests.caching.tiny_models import families, tiny_model
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.signals.block_signals import (
    NoSignal,
)
from wavespeed_runner.models.family import Blocks


@pytest.mark.parametrize("name", ["chroma", "hidream"])
def test_a_tail_would_be_wrong_where_the_denoiser_counts_its_blocks(name: str) -> None:
    """The reason for `Blocks.supports_tail_blocks`."""
    tiny = tiny_model(name)
    assert not tiny.blocks.supports_tail_blocks
    with attach(tiny, REUSING["residual, tail"]) as trace:
        (computed,) = tiny.calls[0].repeat()
        trace.end_step()
        (skipped,) = tiny.calls[0].repeat()
    assert [d.computed for d in trace.decisions] == [True, False]
    assert not torch.allclose(skipped, computed, rtol=1e-4, atol=1e-5 * float(computed.abs().max()))


def test_passes_of_other_kinds_of_guidance_are_branches_of_their_own() -> None:
    """Those of LTX-2: one perturbs a block, one keeps video and sound apart."""
    tiny = tiny_model("ltx2")
    config = replace(tiny.config, stg_scale=1.0, stg_blocks=[1], modality_scale=2.0)
    reference = tiny.generate(config=config)
    with attach(tiny, fbcache(0.0)) as trace:
        result = tiny.generate(config=config, on_step=trace.end_step)
    assert are_equal(list_tensors(result), list_tensors(reference)) and not are_equal(
        list_tensors(result), list_tensors(tiny.result)
    )
    with attach(tiny, fbcache(ALWAYS)) as trace:
        tiny.generate(config=config, on_step=trace.end_step)
    for branch in ("cond_uncond", "uncond_stg", "uncond_modality"):
        assert [d.computed for d in trace.decisions if d.branch == branch] == [True, False]


@pytest.mark.parametrize("name", ["wan22", "wan22_i2v"])
def test_two_denoisers_share_the_count_of_steps_and_no_features(name: str) -> None:
    tiny = tiny_model(name)
    assert len(tiny.denoisers) == 2
    called: list[torch.nn.Module] = []
    handles = [d.register_forward_pre_hook(lambda module, _: called.append(module)) for d in tiny.denoisers]
    try:
        with attach(tiny, fbcache(ALWAYS), steps=6) as trace:
            tiny.generate(steps=6, on_step=trace.end_step)
        with attach(tiny, build_strategy(NoSignal(), Steps(computed=[1, 6])), steps=6) as scheduled:
            tiny.generate(steps=6, on_step=scheduled.end_step)
    finally:
        for handle in handles:
            handle.remove()
    which = [tiny.denoisers.index(module) for module in called[: len(called) // 2 : 2]]
    switch = which.index(1)
    assert which == sorted(which) and 1 < switch < 5
    for branch in ("cond", "uncond"):
        by_threshold = [(d.step, d.computed) for d in trace.decisions if d.branch == branch]
        assert by_threshold == [(step, step in (0, switch)) for step in range(6)]
        by_schedule = [(d.step, d.computed) for d in scheduled.decisions if d.branch == branch]
        assert by_schedule == [(step, step in (0, switch, 5)) for step in range(6)]


def test_guidance_that_ends_early_does_not_disturb_the_other_branch() -> None:
    """Lumina 2 uses guidance in the first steps only."""
    tiny = tiny_model("lumina2")
    steps, ratio = 8, tiny.config.cfg_trunc_ratio
    with attach(tiny, fbcache(ALWAYS), steps=steps) as trace:
        tiny.generate(steps=steps, on_step=trace.end_step)
    guided = sum((i + 1) / steps <= ratio for i in range(steps))
    assert 1 < guided < steps
    for branch, length in (("call 0", steps), ("call 1", guided)):
        assert [d.computed for d in trace.decisions if d.branch == branch] == [i == 0 for i in range(length)]


def test_every_transformer_says_where_its_blocks_are() -> None:
    without = {name for name, (_, family) in families().items() if not isinstance(family.blocks, Blocks)}
    assert without == {"sd", "sdxl"}
