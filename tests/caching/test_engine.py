"""The engine: which steps it computes, what it leaves behind, and that generations do not see each other's state."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch

from tests.caching.generate import ALWAYS, Generated, fbcache, list_computed
from tests.models.tiny_flux import tiny_config
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.predictors.taylor import Taylor
from wavespeed_runner.caching.strategies import NoCache
from wavespeed_runner.config.schema import Guidance
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.families.flux import FLUX
from wavespeed_runner.models.family import BlockList, Blocks
from wavespeed_runner.models.weights.pretrained import load


def test_threshold_zero_is_bit_identical_to_no_cache(plain):
    reference, _ = plain.run()
    latents, trace = plain.run(fbcache(0.0))
    assert torch.equal(latents, reference)
    assert all(d.computed for d in trace.decisions)


def test_the_published_window_computes_the_known_steps(plain):
    window = {"start": 0.2, "end": 0.8, "max_consecutive_cache_hits": 5}
    _, trace = plain.run(fbcache(ALWAYS, **window), steps=30)
    assert list_computed(trace) == [*range(1, 7), 12, 18, *range(24, 31)]


def test_every_guidance_branch_keeps_the_window(guided):
    _, trace = guided.run(fbcache(ALWAYS, start=0.2, end=0.8, max_consecutive_cache_hits=5), steps=30)
    assert list_computed(trace, "cond") == list_computed(trace, "uncond") == [*range(1, 7), 12, 18, *range(24, 31)]


def test_skipped_blocks_do_not_run(plain):
    calls = []
    blocks = [*plain.denoiser.transformer_blocks, *plain.denoiser.single_transformer_blocks]
    handles = [b.register_forward_pre_hook(lambda *_, i=i: calls.append(i)) for i, b in enumerate(blocks)]
    try:
        _, trace = plain.run(fbcache(ALWAYS), steps=4)
    finally:
        for handle in handles:
            handle.remove()
    assert calls == [*range(len(blocks)), 0, 0, 0]
    assert trace.build_evidence()["block_share"] == pytest.approx((len(blocks) + 3) / (4 * len(blocks)))


def test_the_signal_is_the_formula_in_float64(plain):
    residuals = []
    head = plain.denoiser.transformer_blocks[0]
    handle = head.register_forward_hook(
        lambda _, args, kwargs, out: residuals.append((out[1] - kwargs["hidden_states"]).double()), with_kwargs=True
    )
    try:
        _, trace = plain.run(fbcache(0.6), steps=12)
    finally:
        handle.remove()
    last = residuals[0]
    for decision, residual in zip(trace.decisions[1:], residuals[1:], strict=True):
        expected = ((residual - last).abs().mean() / last.abs().mean()).item()
        assert decision.signal == pytest.approx(expected, rel=1e-5)
        assert decision.computed == (expected >= 0.6)
        if decision.computed:
            last = residual


def test_a_skipped_step_of_unchanged_input_equals_a_computed_one(plain):
    """If a stream or an index were wrong, a cache hit on the same input would differ."""
    call = {
        "hidden_states": torch.randn(1, 16, 64, generator=torch.Generator().manual_seed(1)),
        "encoder_hidden_states": plain.embeddings["prompt_embeds"],
        "pooled_projections": plain.embeddings["pooled_prompt_embeds"],
        "timestep": torch.tensor([0.5]),
        "guidance": torch.tensor([3.5]),
        "img_ids": torch.zeros(16, 3),
        "txt_ids": torch.zeros(40, 3),
        "return_dict": False,
    }
    with (
        torch.no_grad(),
        attach_strategy([plain.denoiser], FLUX.blocks, fbcache(ALWAYS), GenerationInfo(steps=lambda: 2)) as trace,
    ):
        computed = plain.denoiser(**call)[0]
        trace.end_step()
        skipped = plain.denoiser(**call)[0]
    assert [d.computed for d in trace.decisions] == [True, False]
    torch.testing.assert_close(skipped, computed, rtol=0, atol=5e-6)


def test_two_head_blocks_run_at_every_step(plain):
    _, trace = plain.run(fbcache(ALWAYS, blocks=2), steps=4)
    assert trace.always == 2


def test_detaching_the_strategy_restores_the_model(plain):
    reference, _ = plain.run()
    before = (plain.denoiser.transformer_blocks, plain.denoiser.single_transformer_blocks)
    names = list(plain.denoiser.state_dict())
    attributes = set(vars(plain.denoiser))
    plain.run(fbcache(0.6))
    assert plain.denoiser.transformer_blocks is before[0]
    assert plain.denoiser.single_transformer_blocks is before[1]
    assert list(plain.denoiser.state_dict()) == names
    assert set(vars(plain.denoiser)) <= attributes | {"_diffusers_hook"}
    assert torch.equal(plain.run()[0], reference)


def test_an_exception_in_the_middle_leaves_a_clean_model(plain):
    fresh, _ = plain.run(fbcache(0.6), seed=1)

    calls = iter(range(8))

    def fail(*_):
        if next(calls) == 4:
            raise KeyboardInterrupt

    hook = plain.denoiser.register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        plain.run(fbcache(0.6))
    hook.remove()
    assert len(plain.denoiser.transformer_blocks) == 2
    again, trace = plain.run(fbcache(0.6), seed=1)
    assert trace.decisions[0].signal is None
    assert torch.equal(again, fresh)


def test_a_generation_does_not_depend_on_the_one_before(plain):
    first, _ = plain.run(fbcache(0.6), seed=1)
    plain.run(fbcache(ALWAYS), seed=2, steps=5, size=96)
    second, _ = plain.run(fbcache(0.6), seed=1)
    assert torch.equal(first, second)


def test_two_pipelines_at_once_do_not_disturb_each_other(plain):
    other = Generated(load(FLUX, plain.model, "cpu"), plain.model)
    alone, _ = plain.run(fbcache(0.6))
    reference, _ = other.run()
    with (
        attach_strategy([plain.denoiser], FLUX.blocks, fbcache(0.6), GenerationInfo(steps=lambda: 8)) as cached,
        attach_strategy([other.denoiser], FLUX.blocks, NoCache(), GenerationInfo(steps=lambda: 8)) as uncached,
    ):
        assert torch.equal(other.denoise(), reference)
        assert torch.equal(plain.denoise(), alone)
    assert len(cached.decisions) == 8
    assert not uncached.decisions


@pytest.mark.parametrize("pipeline", ["plain", "guided"])
def test_without_cache_contexts_each_call_of_a_step_is_a_branch(request, pipeline, monkeypatch):
    """Image-to-image, inpainting and others never open one."""
    generated = request.getfixturevalue(pipeline)
    with_contexts, named = generated.run(fbcache(0.6))
    monkeypatch.setattr(generated.denoiser, "cache_context", lambda *a, **k: nullcontext(), raising=False)
    without, trace = generated.run(fbcache(0.6))
    assert {d.branch for d in trace.decisions} == ({"call 0"} if pipeline == "plain" else {"call 0", "call 1"})
    assert [d.computed for d in trace.decisions] == [d.computed for d in named.decisions]
    assert torch.equal(without, with_contexts)


@pytest.mark.parametrize("blocks", [None, Blocks(lists=(BlockList(name="no_such_list"),))])
def test_a_strategy_that_would_attach_to_nothing_is_an_error(plain, blocks):
    with (
        pytest.raises(RunError, match=r"cache=fbcache: FluxTransformer2DModel has 0 blocks"),
        attach_strategy([plain.denoiser], blocks, fbcache(0.1), GenerationInfo(steps=lambda: 8)),
    ):
        pass


def test_a_head_of_all_blocks_leaves_nothing_to_skip(plain):
    with pytest.raises(RunError, match=r"cache\.signal\.blocks=6"):
        plain.run(fbcache(0.1, blocks=6))


def test_hits_grow_and_never_fall_with_the_threshold(plain):
    hits = [
        sum(not d.computed for d in plain.run(fbcache(t), steps=12)[1].decisions) for t in (0.0, 0.5, 0.6, 0.8, 9.0)
    ]
    assert hits == sorted(hits)
    assert hits[0] == 0
    assert hits[-1] == 11


def test_no_strategy_attaches_nothing(plain):
    latents, trace = plain.run(NoCache())
    assert trace.build_evidence() is None
    assert torch.equal(latents, plain.denoise())


def test_the_trace_lists_each_step_once_with_its_branches():
    config = tiny_config(Guidance.true_cfg)
    _, trace = Generated(load(FLUX, config, "cpu"), config).run(fbcache(0.6), steps=4)
    steps = trace.build_step_records([0.1, 0.2, 0.3, 0.4])
    assert [s["index"] for s in steps] == [1, 2, 3, 4]
    assert [s["seconds"] for s in steps] == [0.1, 0.2, 0.3, 0.4]
    for step in steps:
        assert set(step["branches"]) == {"cond", "uncond"}
        assert step["computed"] == any(b["computed"] for b in step["branches"].values())


def test_no_tensor_outlives_its_generation(plain):
    """Not even until the next garbage collection, which nothing triggers on a GPU."""
    cache = replace(fbcache(0.6), predictor=Taylor(order=2))
    plain.run(cache)
    gc.collect()
    gc.disable()
    try:
        before = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
        plain.run(cache)
        after = sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())
    finally:
        gc.enable()
    assert after <= before
