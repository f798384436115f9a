"""Where families say that their blocks are, in every family: what is skipped, what stands in, what is left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.caching.generate import ALWAYS, fbcache
from tests.caching.tiny_models import STEPS, Call, TinyModel, families, models, tiny_model
from wavespeed_runner.caching import GenerationInfo, Trace, attach_strategy
from wavespeed_runner.caching.criteria.step_lists import Steps
from wavespeed_runner.caching.criteria.thresholds import AccumulatedChange, PredictedChange, RelativeChange
from wavespeed_runner.caching.predictors.reuse import Reuse
from wavespeed_runner.caching.signals.block_signals import (
    FirstBlockOutput,
    FirstBlockResidual,
    ModelChange,
    ModulatedInput,
    NoSignal,
)
from wavespeed_runner.config.schema import CacheConfig, PartConfig
from wavespeed_runner.models.family import Blocks

GUIDED = {
    "chroma": (["call 0", "call 1"], 1),
    "cogvideox": (["cond_uncond"], 2),
    "cogvideox_i2v": (["cond_uncond"], 2),
    "flux": (["cond"], 1),
    "flux2": (["call 0"], 1),
    "flux2_klein": (["cond"], 1),
    "hidream": (["call 0"], 2),
    "hunyuan_video": (["cond"], 1),
    "hunyuan_video_i2v": (["call 0"], 1),
    "hunyuan_video15": (["pred_cond", "pred_uncond"], 1),
    "hunyuan_video15_i2v": (["pred_cond", "pred_uncond"], 1),
    "ltx2": (["cond_uncond"], 2),
    "ltx_video": (["cond_uncond"], 2),
    "lumina2": (["call 0"], 1),  # guidance acts in the first quarter of the steps, which is none of two
    "pixart_sigma": (["call 0"], 2),
    "qwen_image": (["cond", "uncond"], 1),
    "sana": (["call 0"], 2),
    "sd3": (["call 0"], 2),
    "wan": (["cond", "uncond"], 1),
    "wan_i2v": (["cond", "uncond"], 1),
    "wan22": (["cond", "uncond"], 1),
    "wan22_5b": (["cond", "uncond"], 1),
    "wan22_i2v": (["cond", "uncond"], 1),
    "z_image": (["call 0"], 2),
}
"""Model -> its guidance branches, by diffusers' cache contexts or else by the order of the calls, and the rows of each
call's batch: two where the branches share it."""


def strategy(signal: PartConfig, criterion: PartConfig, tail_blocks: int = 0) -> CacheConfig:
    return CacheConfig(name="custom", signal=signal, criterion=criterion, predictor=Reuse(), tail_blocks=tail_blocks)


EAGER = {
    "residual": strategy(FirstBlockResidual(), RelativeChange(threshold=ALWAYS)),
    "residual, tail": strategy(FirstBlockResidual(), RelativeChange(threshold=ALWAYS), 1),
    "residual of three": strategy(FirstBlockResidual(blocks=3), RelativeChange(threshold=ALWAYS)),
    "output of two, tail": strategy(FirstBlockOutput(blocks=2), AccumulatedChange(threshold=ALWAYS), 1),
    "modulated input": strategy(ModulatedInput(), AccumulatedChange(threshold=ALWAYS)),
    "schedule": strategy(NoSignal(), Steps(computed=[1])),
    "schedule, tail": strategy(NoSignal(), Steps(computed=[1]), 1),
}
"""Strategies that skip at the second call with the same input. Shipped ones can be added."""


@pytest.fixture(scope="module", params=models())
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return tiny_model(request.param)


def fitting(tiny: TinyModel, cache: CacheConfig) -> CacheConfig:
    if cache.tail_blocks and not tiny.blocks.supports_tail_blocks:
        pytest.skip("no tail: the denoiser counts its blocks")
    if cache.signal.name == "modulated_input" and tiny.blocks.modulated_input is None:
        pytest.skip("no modulated input")
    return cache


@contextmanager
def on(tiny: TinyModel, cache: CacheConfig, steps: int = STEPS) -> Iterator[Trace]:
    with attach_strategy(tiny.denoisers, tiny.blocks, cache, GenerationInfo(steps=lambda: steps)) as trace:
        yield trace


@contextmanager
def counted(tiny: TinyModel, denoiser: torch.nn.Module) -> Iterator[list[int]]:
    """Which blocks ran, as their places."""
    ran: list[int] = []
    blocks = tiny.listed(denoiser)
    handles = [b.register_forward_pre_hook(lambda *_, i=i: ran.append(i)) for i, b in enumerate(blocks)]
    yield ran
    for handle in handles:
        handle.remove()


def tensors_of(given: Any) -> list[torch.Tensor]:
    return [value for value in given.values() if isinstance(value, torch.Tensor)]


def same(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> bool:
    return len(ours) == len(theirs) and all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def first_calls(tiny: TinyModel) -> list[Call]:
    """One of each denoiser."""
    return [next(call for call in tiny.calls if call.denoiser is denoiser) for denoiser in tiny.denoisers]


@pytest.mark.parametrize("name", EAGER)
def test_a_hit_on_the_same_input_is_the_full_computation(tiny: TinyModel, name: str) -> None:
    """Were a stream, an order or an index wrong, it would not be."""
    cache = fitting(tiny, EAGER[name])
    head = getattr(cache.signal, "blocks", 0)
    for call in first_calls(tiny):
        with on(tiny, cache) as trace, counted(tiny, call.denoiser) as ran:
            computed = call.again()
            trace.end_step()
            skipped = call.again()
        assert [d.computed for d in trace.decisions] == [True, False]
        assert same(computed, call.output)
        for ours, theirs in zip(skipped, computed, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
        every = list(range(trace.blocks))
        assert ran == every + every[:head] + every[len(every) - cache.tail_blocks :]


def test_a_generation_with_threshold_zero_is_bit_equal_and_knows_its_guidance_branches(tiny: TinyModel) -> None:
    with on(tiny, fbcache(0.0)) as trace:
        made = tiny.generate(on_step=trace.end_step)
    assert same(tensors_of(made), tensors_of(tiny.made))
    assert len(trace.decisions) == len(tiny.calls)
    branches = list(dict.fromkeys(d.branch for d in trace.decisions))
    assert (branches, tiny.calls[0].rows) == GUIDED[tiny.config.name]
    assert all([d.step for d in trace.decisions if d.branch == branch] == list(range(STEPS)) for branch in branches)


def test_what_goes_into_the_denoiser_and_comes_out_of_it_can_be_watched(tiny: TinyModel) -> None:
    """EasyCache's signal, against its formula in float64."""
    steps = 3
    cache = strategy(ModelChange(), PredictedChange(threshold=0.0))
    with tiny.recorded() as calls, on(tiny, cache, steps) as trace:
        tiny.generate(steps=steps, on_step=trace.end_step)
    branches = len(calls) // steps
    if len(tiny.denoisers) > 1:  # the second one has not been watched for long enough
        assert all(d.signal is None for d in trace.decisions)
        return
    assert all(d.signal is None for d in trace.decisions[: 2 * branches])
    for decision, now, then in zip(
        trace.decisions[2 * branches :], calls[2 * branches :], calls[branches : 2 * branches], strict=True
    ):
        # One tensor; of Z-Image one an image; of LTX-2 the video, and not the sound.
        output = torch.stack([given for given in then.output if given.shape == then.output[0].shape])
        formula = (now.latents.double() - then.latents.double()).abs().mean() / output.double().abs().mean()
        assert decision.signal == pytest.approx(formula.item(), rel=1e-4)


def test_taking_a_strategy_off_leaves_the_model_as_it_was(tiny: TinyModel) -> None:
    def state(denoiser: Any) -> tuple[Any, ...]:
        lists = [getattr(denoiser, one.name) for one in tiny.blocks.lists]
        hooks = [hook for m in denoiser.modules() for hook in (*m._forward_hooks, *m._forward_pre_hooks)]
        # diffusers keeps its (empty) registry of hooks.
        attributes = set(vars(denoiser)) - {"_diffusers_hook"}
        return (
            [id(m) for m in lists],
            [id(m) for m in tiny.listed(denoiser)],
            list(denoiser.state_dict()),
            hooks,
            attributes,
        )

    before = [state(denoiser) for denoiser in tiny.denoisers]
    with on(tiny, fbcache(ALWAYS)) as trace:
        made = tiny.generate(on_step=trace.end_step)
    # All branches skip the second step; but where another denoiser takes over, it has nothing to reuse.
    assert [d.computed for d in trace.decisions] == [
        i < len(tiny.calls) // STEPS or len(tiny.denoisers) > 1 for i in range(len(tiny.calls))
    ]
    assert all(bool(torch.isfinite(value).all()) for value in tensors_of(made))
    assert [state(denoiser) for denoiser in tiny.denoisers] == before
    assert all(same(call.again(), call.output) for call in first_calls(tiny))


@pytest.mark.parametrize("name", ["chroma", "hidream"])
def test_a_tail_would_be_wrong_where_the_denoiser_counts_its_blocks(name: str) -> None:
    """What `Blocks.supports_tail_blocks` is for."""
    tiny = tiny_model(name)
    assert not tiny.blocks.supports_tail_blocks
    with on(tiny, EAGER["residual, tail"]) as trace:
        (computed,) = tiny.calls[0].again()
        trace.end_step()
        (skipped,) = tiny.calls[0].again()
    assert [d.computed for d in trace.decisions] == [True, False]
    assert not torch.allclose(skipped, computed, rtol=1e-4, atol=1e-5 * float(computed.abs().max()))


def test_passes_of_other_guidance_are_branches_of_their_own() -> None:
    """LTX-2's: one perturbs a block, one keeps video and sound apart."""
    tiny = tiny_model("ltx2")
    config = replace(tiny.config, stg_scale=1.0, stg_blocks=[1], modality_scale=2.0)
    reference = tiny.generate(config=config)
    with on(tiny, fbcache(0.0)) as trace:
        made = tiny.generate(config=config, on_step=trace.end_step)
    assert same(tensors_of(made), tensors_of(reference)) and not same(tensors_of(made), tensors_of(tiny.made))
    with on(tiny, fbcache(ALWAYS)) as trace:
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
        with on(tiny, fbcache(ALWAYS), steps=6) as trace:
            tiny.generate(steps=6, on_step=trace.end_step)
        with on(tiny, strategy(NoSignal(), Steps(computed=[1, 6])), steps=6) as listed:
            tiny.generate(steps=6, on_step=listed.end_step)
    finally:
        for handle in handles:
            handle.remove()
    which = [tiny.denoisers.index(module) for module in called[: len(called) // 2 : 2]]
    switch = which.index(1)
    assert which == sorted(which) and 1 < switch < 5
    for branch in ("cond", "uncond"):
        ours = [(d.step, d.computed) for d in trace.decisions if d.branch == branch]
        assert ours == [(step, step in (0, switch)) for step in range(6)]
        theirs = [(d.step, d.computed) for d in listed.decisions if d.branch == branch]
        assert theirs == [(step, step in (0, switch, 5)) for step in range(6)]


def test_guidance_that_ends_early_leaves_the_other_branch_as_it_is() -> None:
    """Lumina 2 guides in the first steps alone."""
    tiny = tiny_model("lumina2")
    steps, ratio = 8, tiny.config.cfg_trunc_ratio
    with on(tiny, fbcache(ALWAYS), steps=steps) as trace:
        tiny.generate(steps=steps, on_step=trace.end_step)
    guided = sum((i + 1) / steps <= ratio for i in range(steps))
    assert 1 < guided < steps
    for branch, length in (("call 0", steps), ("call 1", guided)):
        assert [d.computed for d in trace.decisions if d.branch == branch] == [i == 0 for i in range(length)]


def test_every_transformer_has_a_table() -> None:
    without = {name for name, (_, family) in families().items() if not isinstance(family.blocks, Blocks)}
    assert without == {"sd", "sdxl"}
