"""Caches on U-Nets: that walking the layers is what diffusers does, and what is skipped, kept and left behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler, PNDMScheduler

from tests.caching.generate import ALWAYS
from tests.caching.generate_unet import MODELS, GeneratedByUNet, deepcache, first_blocks, generated
from tests.caching.unet_references import deepcache as hooked_deepcache
from tests.caching.unet_references import first_block_cache as hooked_first_block_cache
from tests.models.test_every_model import image
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.attach.unet_layers import list_layers
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.family import UNetBlocks

BRANCHES = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
"""DeepCache's (block, layer), of U-Nets with two layers a block; the n-th of them is depth n."""


@pytest.fixture(params=MODELS)
def made(request: Any) -> GeneratedByUNet:
    return generated(request.param)


def computed_steps(trace: Any) -> list[int]:
    """Counted from 0."""
    return [d.step for d in trace.decisions if d.computed]


def call_of(made: GeneratedByUNet) -> tuple[Any, dict[str, Any]]:
    """What the pipeline calls its U-Net with."""
    seen: list[tuple[Any, dict[str, Any]]] = []
    handle = made.unet.register_forward_pre_hook(lambda _, a, k: seen.append((a, dict(k))), with_kwargs=True)
    made.denoise(steps=2)
    handle.remove()
    return seen[0]


@contextmanager
def scheduler(made: GeneratedByUNet, kind: Any) -> Iterator[None]:
    own = made.pipe.scheduler
    made.pipe.scheduler = kind.from_config(own.config)
    try:
        yield
    finally:
        made.pipe.scheduler = own


@pytest.mark.parametrize("cache", [first_blocks(0.0, 2), deepcache(1, 0), deepcache(1, 4)], ids=["first", "0", "4"])
@pytest.mark.parametrize("size", [64, 72, 104])  # all but the first leave a remainder on the way down
def test_where_nothing_is_skipped_nothing_changes(made: GeneratedByUNet, size: int, cache: Any) -> None:
    latents, trace = made.run(cache, steps=2, size=size)
    assert torch.equal(latents, made.denoise(steps=2, size=size))
    assert computed_steps(trace) == [0, 1]


def test_attention_masks_and_arguments_reach_the_attentions(made: GeneratedByUNet) -> None:
    (sample, *rest), named = call_of(made)
    prompt = named["encoder_hidden_states"]
    mask = torch.ones(prompt.shape[:2]).index_fill(1, torch.arange(3, prompt.shape[1]), 0)
    with torch.inference_mode():
        free = made.unet(sample, *rest, **named)[0]
        named |= {"encoder_attention_mask": mask}
        masked = made.unet(sample, *rest, **named)[0]
        with attach_strategy([made.unet], UNetBlocks(), deepcache(1, 0), GenerationInfo(steps=lambda: 1, flow=False)):
            ours = made.unet(sample, *rest, **named)[0]
    assert not torch.equal(free, masked), "the mask has no effect, and the test none"
    assert torch.equal(ours, masked)


@pytest.mark.parametrize("cache", [first_blocks(ALWAYS), first_blocks(ALWAYS, 2), deepcache(2, 0), deepcache(2, 5)])
def test_a_skipped_step_of_unchanged_input_equals_a_computed_one(made: GeneratedByUNet, cache: Any) -> None:
    positional, named = call_of(made)
    with (
        torch.inference_mode(),
        attach_strategy([made.unet], UNetBlocks(), cache, GenerationInfo(steps=lambda: 2, flow=False)) as trace,
    ):
        computed = made.unet(*positional, **named)[0]
        trace.end_step()
        skipped = made.unet(*positional, **named)[0]
    assert [d.computed for d in trace.decisions] == [True, False]
    if cache.depth is None:  # a + (b - a) is b but for rounding
        assert torch.allclose(skipped, computed, rtol=1e-4, atol=1e-5 * float(computed.abs().max()))
    else:
        assert torch.equal(skipped, computed)


@pytest.mark.parametrize(("block", "layer"), BRANCHES)
def test_depth_is_deepcache_by_plain_hooks(made: GeneratedByUNet, block: int, layer: int) -> None:
    with hooked_deepcache(made.unet, interval=3, block=block, layer=layer):
        reference = made.denoise(size=72)
    ours, trace = made.run(deepcache(3, 3 * block + layer), size=72)
    assert torch.equal(ours, reference)
    assert computed_steps(trace) == [0, 3, 6]


def test_a_head_is_first_block_cache_by_plain_hooks(made: GeneratedByUNet) -> None:
    _, recorded = made.run(first_blocks(0.0))
    threshold = sorted(d.signal for d in recorded.decisions if d.signal is not None)[3]
    with hooked_first_block_cache(made.unet, lambda _, change: change < threshold) as computed:
        reference = made.denoise()
    ours, trace = made.run(first_blocks(threshold))
    assert [d.computed for d in trace.decisions] == computed
    assert 1 < sum(computed) < 7
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("depth", [None, 0, 4])
def test_skipped_layers_are_not_called(made: GeneratedByUNet, depth: int | None) -> None:
    found = list_layers(made.unet)
    half = len(found) // 2
    calls: list[int] = []
    parts = [layer.resnet or layer.resamplers[0] for layer in found]
    handles = [p.register_forward_pre_hook(lambda *_, i=i: calls.append(i)) for i, p in enumerate(parts)]
    cache = first_blocks(ALWAYS) if depth is None else deepcache(9, depth)
    try:
        _, trace = made.run(cache, steps=2)
    finally:
        for handle in handles:
            handle.remove()
    everything = list(range(len(found)))
    always = [0] if depth is None else everything[:depth] + everything[-depth - 1 :]
    assert calls == everything + always
    assert [layer.way for layer in found] == ["down"] * (half - 1) + ["middle"] + ["up"] * half
    evidence = trace.build_evidence()
    assert evidence["blocks"] == len(found)
    assert evidence["block_share"] == pytest.approx((len(found) + len(always)) / (2 * len(found)))


def test_the_images_of_a_batch_are_kept_apart(made: GeneratedByUNet) -> None:
    """Rows are image 0, image 1, image 0, image 1: guidance doubles the batch."""
    two = GeneratedByUNet.__new__(GeneratedByUNet)
    two.__dict__ |= vars(made)
    two.embeddings = {name: torch.cat([t, t.flip(1) if t.ndim == 3 else -t]) for name, t in made.embeddings.items()}
    with hooked_deepcache(two.unet, interval=3, block=0, layer=1):
        reference = two.denoise()
    ours, trace = two.run(deepcache(3, 1), images=2)
    assert ours.shape[0] == 2 and not torch.equal(ours[0], ours[1])
    assert torch.equal(ours, reference)
    assert [(d.image, d.step) for d in trace.decisions if d.computed] == [(p, s) for s in (0, 3, 6) for p in (0, 1)]


@pytest.mark.parametrize(("kind", "calls"), [(HeunDiscreteScheduler, 13), (PNDMScheduler, 8)])
def test_samplers_that_call_twice_a_step_count_calls(kind: Any, calls: int) -> None:
    made = generated("sd15")
    with scheduler(made, kind):
        with hooked_deepcache(made.unet, interval=3, block=0, layer=0):
            reference = made.denoise()
        ours, trace = made.run(deepcache(3, 0), calls=calls)
    assert computed_steps(trace) == list(range(0, calls, 3))
    assert len(trace.decisions) == calls
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("cache", [first_blocks(ALWAYS), deepcache(3, 1)], ids=["first", "depth"])
def test_image_to_image_does_not_depend_on_the_strength_before(made: GeneratedByUNet, cache: Any) -> None:
    start = {"task": "image_to_image", "image": image(64), "steps": 10}
    _, first = made.run(cache, calls=8, strength=0.8, **start)
    after_another, trace = made.run(cache, calls=5, strength=0.5, **start)
    fresh, _ = GeneratedByUNet(made.name).run(cache, calls=5, strength=0.5, **start)
    assert torch.equal(after_another, fresh)
    assert (len(first.decisions), len(trace.decisions)) == (8, 5)


def test_taking_the_strategy_off_restores_the_model(made: GeneratedByUNet) -> None:
    reference, unet = made.denoise(steps=2), made.unet
    before = (unet.down_blocks, unet.mid_block, unet.up_blocks)
    names, attributes, modules = list(unet.state_dict()), list(vars(unet)), list(unet.modules())
    with attach_strategy([unet], UNetBlocks(), deepcache(3, 0), GenerationInfo(steps=lambda: 2, flow=False)):
        assert {id(p) for p in unet.parameters()} == {id(p) for m in modules for p in m.parameters()}
        assert unet.mid_block is not before[1]
    assert all(
        now is then for now, then in zip((unet.down_blocks, unet.mid_block, unet.up_blocks), before, strict=True)
    )
    assert (list(unet.state_dict()), list(vars(unet)), list(unet.modules())) == (names, attributes, modules)
    assert not unet._forward_pre_hooks
    assert torch.equal(made.denoise(steps=2), reference)


def test_an_exception_in_the_middle_leaves_a_clean_model(made: GeneratedByUNet) -> None:
    fresh, _ = made.run(deepcache(3, 0))
    calls, before = count(), made.unet.mid_block

    def fail(*_: Any) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt

    handle = made.unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(KeyboardInterrupt):
            made.run(deepcache(3, 0))
    finally:
        handle.remove()
    assert made.unet.mid_block is before
    assert torch.equal(made.run(deepcache(3, 0))[0], fresh)


def test_two_pipelines_at_once_do_not_meet(made: GeneratedByUNet) -> None:
    other = GeneratedByUNet(made.name)
    alone, _ = made.run(deepcache(3, 0))
    second, _ = other.run(first_blocks(ALWAYS))
    run = GenerationInfo(steps=lambda: 7, flow=False)
    with (
        attach_strategy([made.unet], UNetBlocks(), deepcache(3, 0), run) as mine,
        attach_strategy([other.unet], UNetBlocks(), first_blocks(ALWAYS), run) as theirs,
    ):
        assert torch.equal(other.denoise(on_step=theirs.end_step), second)
        assert torch.equal(made.denoise(on_step=mine.end_step), alone)
    assert (computed_steps(mine), computed_steps(theirs)) == ([0, 3, 6], [0])


@pytest.mark.parametrize(
    ("cache", "key"),
    [(first_blocks(0.1, 3), "cache.signal.blocks=2"), (deepcache(3, 12), "cache.depth=12")],
)
def test_layers_that_are_not_there_are_refused(cache: Any, key: str) -> None:
    with pytest.raises(RunError, match=key):
        generated("sd15").run(cache)


def test_what_the_walk_would_leave_out_is_refused() -> None:
    made = GeneratedByUNet("sd15")
    made.pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    with pytest.raises(RunError, match="FreeU"):
        made.run(deepcache(3, 0))
    made.pipe.disable_freeu()
    (sample, *rest), named = call_of(made)
    middle = made.unet.mid_block
    with (
        torch.inference_mode(),
        attach_strategy([made.unet], UNetBlocks(), deepcache(3, 0), GenerationInfo(steps=lambda: 2, flow=False)),
        pytest.raises(RunError, match="mid_block_additional_residual"),
    ):
        made.unet(sample, *rest, **(named | {"mid_block_additional_residual": torch.zeros(1)}))
    assert made.unet.mid_block is middle


def test_group_offloading_fetches_each_layer_or_is_refused() -> None:
    """On a CPU nothing moves; hooks of blocks that are never called would fetch nothing."""
    reference, _ = generated("sd15").run(deepcache(3, 0))
    offload = {"onload_device": torch.device("cpu"), "offload_device": torch.device("cpu")}
    by_leaf, by_block = GeneratedByUNet("sd15"), GeneratedByUNet("sd15")
    by_leaf.unet.enable_group_offload(**offload, offload_type="leaf_level")
    by_block.unet.enable_group_offload(**offload, offload_type="block_level", num_blocks_per_group=1)
    assert torch.equal(by_leaf.run(deepcache(3, 0))[0], reference)
    with pytest.raises(RunError, match="leaf_level"):
        by_block.run(deepcache(3, 0))
