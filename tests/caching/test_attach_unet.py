"""Strategies attached to U-Nets: running them layer by layer is what diffusers does, and what is skipped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from diffusers import HeunDiscreteScheduler, PNDMScheduler

from tests.caching.generate import ALWAYS
from tests.caching.generate_unet import (
    MODELS,
    GeneratedByUNet,
    deepcache,
    first_blocks,
    list_computed,
    load_unet,
    record_call,
)
from tests.caching.unet_references import deepcache as hooked_deepcache
from tests.caching.unet_references import first_block_cache as hooked_first_block_cache
from tests.models.test_every_model import image
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.caching.attach.unet_layers import list_layers
from wavespeed_runner.models.family import UNetBlocks

BRANCHES = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
"""DeepCache's (block, layer) in U-Nets with two layers a block; the n-th entry is depth n."""


@pytest.fixture(params=MODELS)
def model(request: Any) -> GeneratedByUNet:
    return load_unet(request.param)


@contextmanager
def use_scheduler(model: GeneratedByUNet, kind: Any) -> Iterator[None]:
    original = model.pipe.scheduler
    model.pipe.scheduler = kind.from_config(original.config)
    try:
        yield
    finally:
        model.pipe.scheduler = original


@pytest.mark.parametrize("cache", [first_blocks(0.0, 2), deepcache(1, 0), deepcache(1, 4)], ids=["first", "0", "4"])
@pytest.mark.parametrize("size", [64, 72, 104])  # all but the first are not multiples of the scale of the U-Net
def test_where_nothing_is_skipped_nothing_changes(model: GeneratedByUNet, size: int, cache: Any) -> None:
    latents, trace = model.run(cache, steps=2, size=size)
    assert torch.equal(latents, model.denoise(steps=2, size=size))
    assert list_computed(trace) == [0, 1]


def test_attention_masks_and_arguments_reach_the_attentions(model: GeneratedByUNet) -> None:
    (sample, *rest), named = record_call(model)
    prompt = named["encoder_hidden_states"]
    mask = torch.ones(prompt.shape[:2]).index_fill(1, torch.arange(3, prompt.shape[1]), 0)
    with torch.inference_mode():
        unmasked = model.unet(sample, *rest, **named)[0]
        named |= {"encoder_attention_mask": mask}
        masked = model.unet(sample, *rest, **named)[0]
        with attach_strategy([model.unet], UNetBlocks(), deepcache(1, 0), GenerationInfo(steps=lambda: 1, flow=False)):
            ours = model.unet(sample, *rest, **named)[0]
    assert not torch.equal(unmasked, masked), "the mask has no effect, so the test shows nothing"
    assert torch.equal(ours, masked)


@pytest.mark.parametrize("cache", [first_blocks(ALWAYS), first_blocks(ALWAYS, 2), deepcache(2, 0), deepcache(2, 5)])
def test_a_skipped_step_of_unchanged_input_equals_a_computed_one(model: GeneratedByUNet, cache: Any) -> None:
    positional, named = record_call(model)
    with (
        torch.inference_mode(),
        attach_strategy([model.unet], UNetBlocks(), cache, GenerationInfo(steps=lambda: 2, flow=False)) as trace,
    ):
        computed = model.unet(*positional, **named)[0]
        trace.end_step()
        skipped = model.unet(*positional, **named)[0]
    assert [d.computed for d in trace.decisions] == [True, False]
    if cache.depth is None:  # a + (b - a) is b except for rounding
        assert torch.allclose(skipped, computed, rtol=1e-4, atol=1e-5 * float(computed.abs().max()))
    else:
        assert torch.equal(skipped, computed)


@pytest.mark.parametrize(("block", "layer"), BRANCHES)
def test_depth_is_deepcache_by_plain_hooks(model: GeneratedByUNet, block: int, layer: int) -> None:
    with hooked_deepcache(model.unet, interval=3, block=block, layer=layer):
        reference = model.denoise(size=72)
    ours, trace = model.run(deepcache(3, 3 * block + layer), size=72)
    assert torch.equal(ours, reference)
    assert list_computed(trace) == [0, 3, 6]


def test_a_head_is_first_block_cache_by_plain_hooks(model: GeneratedByUNet) -> None:
    _, recorded = model.run(first_blocks(0.0))
    threshold = sorted(d.signal for d in recorded.decisions if d.signal is not None)[3]
    with hooked_first_block_cache(model.unet, lambda _, change: change < threshold) as computed:
        reference = model.denoise()
    ours, trace = model.run(first_blocks(threshold))
    assert [d.computed for d in trace.decisions] == computed
    assert 1 < sum(computed) < 7
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("depth", [None, 0, 4])
def test_skipped_layers_are_not_called(model: GeneratedByUNet, depth: int | None) -> None:
    layers = list_layers(model.unet)
    half = len(layers) // 2
    calls: list[int] = []
    parts = [layer.resnet or layer.resamplers[0] for layer in layers]
    handles = [p.register_forward_pre_hook(lambda *_, i=i: calls.append(i)) for i, p in enumerate(parts)]
    cache = first_blocks(ALWAYS) if depth is None else deepcache(9, depth)
    try:
        _, trace = model.run(cache, steps=2)
    finally:
        for handle in handles:
            handle.remove()
    everything = list(range(len(layers)))
    always = [0] if depth is None else everything[:depth] + everything[-depth - 1 :]
    assert calls == everything + always
    assert [layer.way for layer in layers] == ["down"] * (half - 1) + ["middle"] + ["up"] * half
    evidence = trace.build_evidence()
    assert evidence["blocks"] == len(layers)
    assert evidence["block_share"] == pytest.approx((len(layers) + len(always)) / (2 * len(layers)))


def test_the_images_of_a_batch_are_kept_apart(model: GeneratedByUNet) -> None:
    """Rows are image 0, image 1, image 0, image 1: guidance doubles the batch."""
    two = GeneratedByUNet.__new__(GeneratedByUNet)
    two.__dict__ |= vars(model)
    two.embeddings = {name: torch.cat([t, t.flip(1) if t.ndim == 3 else -t]) for name, t in model.embeddings.items()}
    with hooked_deepcache(two.unet, interval=3, block=0, layer=1):
        reference = two.denoise()
    ours, trace = two.run(deepcache(3, 1), images=2)
    assert ours.shape[0] == 2 and not torch.equal(ours[0], ours[1])
    assert torch.equal(ours, reference)
    assert [(d.image, d.step) for d in trace.decisions if d.computed] == [(p, s) for s in (0, 3, 6) for p in (0, 1)]


@pytest.mark.parametrize(("kind", "calls"), [(HeunDiscreteScheduler, 13), (PNDMScheduler, 8)])
def test_samplers_that_call_twice_a_step_count_calls(kind: Any, calls: int) -> None:
    model = load_unet("sd15")
    with use_scheduler(model, kind):
        with hooked_deepcache(model.unet, interval=3, block=0, layer=0):
            reference = model.denoise()
        ours, trace = model.run(deepcache(3, 0), calls=calls)
    assert list_computed(trace) == list(range(0, calls, 3))
    assert len(trace.decisions) == calls
    assert torch.equal(ours, reference)


@pytest.mark.parametrize("cache", [first_blocks(ALWAYS), deepcache(3, 1)], ids=["first", "depth"])
def test_image_to_image_does_not_depend_on_the_strength_before(model: GeneratedByUNet, cache: Any) -> None:
    start = {"task": "image_to_image", "image": image(64), "steps": 10}
    _, first = model.run(cache, calls=8, strength=0.8, **start)
    after_another, trace = model.run(cache, calls=5, strength=0.5, **start)
    fresh, _ = GeneratedByUNet(model.name).run(cache, calls=5, strength=0.5, **start)
    assert torch.equal(after_another, fresh)
    assert (len(first.decisions), len(trace.decisions)) == (8, 5)


def test_whole_output_is_the_denoiser_s_last_output(model: GeneratedByUNet) -> None:
    """LightDiffusion-Next's DeepCache: at two of three calls the U-Net is not called at all."""
    cache = deepcache(3, 0, whole_output=True)
    cache.depth = None
    latents, trace = model.run(cache, steps=7)
    assert list_computed(trace) == [0, 3, 6]
    forward, kept, count = model.unet.forward, None, 0

    def reuse(*args: Any, **options: Any) -> Any:
        nonlocal kept, count
        kept = forward(*args, **options) if count % 3 == 0 else kept
        count += 1
        return kept

    model.unet.forward = reuse
    try:
        assert torch.equal(latents, model.denoise(steps=7))
    finally:
        del model.unet.forward
