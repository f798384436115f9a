"""Strategies attached to every family of transformers: what is skipped, what replaces it, what is left behind."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.caching.attach_tiny import (
    REUSING,
    are_equal,
    attach,
    build_strategy,
    find_first_calls,
    list_tensors,
    record_blocks,
)
from tests.caching.generate import ALWAYS, fbcache
from tests.caching.tiny_models import OTHER_ARCHITECTURES, STEPS, TinyModel, models, tiny_model
from wavespeed_runner.caching.criteria.thresholds import PredictedChange
from wavespeed_runner.caching.signals.block_signals import (
    ModelChange,
)
from wavespeed_runner.config.schema import CacheConfig

GUIDED = {
    "chroma": (["call 0", "call 1"], 1),
    "cogvideox": (["cond_uncond"], 2),
    "cogvideox_i2v": (["cond_uncond"], 2),
    "flux": (["cond"], 1),
    "flux_fill": (["call 0"], 1),
    "flux_kontext": (["call 0"], 1),
    "flux2": (["call 0"], 1),
    "flux2_klein": (["cond"], 1),
    "hidream": (["call 0"], 2),
    "hunyuan_video": (["cond"], 1),
    "hunyuan_video_i2v": (["call 0"], 1),
    "hunyuan_video15": (["pred_cond", "pred_uncond"], 1),
    "hunyuan_video15_i2v": (["pred_cond", "pred_uncond"], 1),
    "ltx2": (["cond_uncond", "uncond_stg", "uncond_modality"], 2),
    "ltx_video": (["cond_uncond"], 2),
    "lumina2": (["call 0"], 1),  # guidance acts in the first quarter of the steps, which is none of two steps
    "pixart_sigma": (["call 0"], 2),
    "qwen_image": (["cond", "uncond"], 1),
    "qwen_image_edit": (["cond", "uncond"], 1),
    "qwen_image_edit_plus": (["cond", "uncond"], 1),
    "sana": (["call 0"], 2),
    "sd3": (["call 0"], 2),
    "wan": (["cond", "uncond"], 1),
    "wan_i2v": (["cond", "uncond"], 1),
    "wan22": (["cond", "uncond"], 1),
    "wan22_5b": (["cond", "uncond"], 1),
    "wan22_i2v": (["cond", "uncond"], 1),
    "z_image": (["call 0"], 2),
}
"""Model -> its guidance branches, named by diffusers' cache contexts or else by the order of the calls, and the rows of
each call's batch: two where the branches share it."""


@pytest.fixture(scope="module", params=[*models(), *OTHER_ARCHITECTURES])
def tiny(request: pytest.FixtureRequest) -> TinyModel:
    return tiny_model(request.param)


def skip_unless_fit(tiny: TinyModel, cache: CacheConfig) -> CacheConfig:
    if cache.tail_blocks and not tiny.blocks.supports_tail_blocks:
        pytest.skip("no tail: the denoiser counts its blocks")
    if cache.signal.name == "modulated_input" and tiny.blocks.modulated_input is None:
        pytest.skip("no modulated input")
    return cache


@pytest.mark.parametrize("name", REUSING)
def test_a_hit_on_the_same_input_is_the_full_computation(tiny: TinyModel, name: str) -> None:
    """It would not be if a stream, an order or an index were wrong."""
    cache = skip_unless_fit(tiny, REUSING[name])
    head = getattr(cache.signal, "blocks", 0)
    for call in find_first_calls(tiny):
        with attach(tiny, cache) as trace, record_blocks(tiny, call.denoiser) as ran:
            computed = call.repeat()
            trace.end_step()
            skipped = call.repeat()
        assert [d.computed for d in trace.decisions] == [True, False]
        assert are_equal(computed, call.output)
        for ours, theirs in zip(skipped, computed, strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max()))
        every = list(range(trace.blocks))
        assert ran == every + every[:head] + every[len(every) - cache.tail_blocks :]


def test_a_generation_with_threshold_zero_is_bit_equal_and_knows_its_guidance_branches(tiny: TinyModel) -> None:
    with attach(tiny, fbcache(0.0)) as trace:
        result = tiny.generate(on_step=trace.end_step)
    assert are_equal(list_tensors(result), list_tensors(tiny.result))
    assert len(trace.decisions) == len(tiny.calls)
    branches = list(dict.fromkeys(d.branch for d in trace.decisions))
    assert (branches, tiny.calls[0].rows) == GUIDED[tiny.config.name]
    assert all([d.step for d in trace.decisions if d.branch == branch] == list(range(STEPS)) for branch in branches)


def test_input_and_output_of_the_denoiser_can_be_watched(tiny: TinyModel) -> None:
    """EasyCache's signal, against its formula in float64."""
    steps = 3
    cache = build_strategy(ModelChange(), PredictedChange(threshold=0.0))
    with tiny.record_calls() as calls, attach(tiny, cache, steps) as trace:
        tiny.generate(steps=steps, on_step=trace.end_step)
    branches = len(calls) // steps
    if len(tiny.denoisers) > 1:  # the second one has not been watched for two steps
        assert all(d.signal is None for d in trace.decisions)
        return
    assert all(d.signal is None for d in trace.decisions[: 2 * branches])
    for decision, now, then in zip(
        trace.decisions[2 * branches :], calls[2 * branches :], calls[branches : 2 * branches], strict=True
    ):
        # One tensor; for Z-Image one an image; for LTX-2 the video, not the sound.
        output = torch.stack([tensor for tensor in then.output if tensor.shape == then.output[0].shape])
        formula = (now.latents.double() - then.latents.double()).abs().mean() / output.double().abs().mean()
        assert decision.signal == pytest.approx(formula.item(), rel=1e-4)


def test_detaching_a_strategy_leaves_the_model_as_it_was(tiny: TinyModel) -> None:
    def state(denoiser: Any) -> tuple[Any, ...]:
        lists = [getattr(denoiser, block_list.name) for block_list in tiny.blocks.lists]
        hooks = [hook for m in denoiser.modules() for hook in (*m._forward_hooks, *m._forward_pre_hooks)]
        # diffusers leaves its empty registry of hooks.
        attributes = set(vars(denoiser)) - {"_diffusers_hook"}
        return (
            [id(m) for m in lists],
            [id(m) for m in tiny.list_blocks(denoiser)],
            list(denoiser.state_dict()),
            hooks,
            attributes,
        )

    before = [state(denoiser) for denoiser in tiny.denoisers]
    with attach(tiny, fbcache(ALWAYS)) as trace:
        result = tiny.generate(on_step=trace.end_step)
    # All branches reuse at the second step, but another denoiser that takes over has nothing to reuse.
    assert [d.computed for d in trace.decisions] == [
        i < len(tiny.calls) // STEPS or len(tiny.denoisers) > 1 for i in range(len(tiny.calls))
    ]
    assert all(bool(torch.isfinite(value).all()) for value in list_tensors(result))
    assert [state(denoiser) for denoiser in tiny.denoisers] == before
    assert all(are_equal(call.repeat(), call.output) for call in find_first_calls(tiny))
