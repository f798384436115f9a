"""Strategies on U-Nets leave a clean model behind, and refuse what they would do wrongly."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
import torch

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
from wavespeed_runner.caching import GenerationInfo, attach_strategy
from wavespeed_runner.errors import RunError
from wavespeed_runner.models.family import UNetBlocks


@pytest.fixture(params=MODELS)
def model(request: Any) -> GeneratedByUNet:
    return load_unet(request.param)


def test_detaching_the_strategy_restores_the_model(model: GeneratedByUNet) -> None:
    reference, unet = model.denoise(steps=2), model.unet
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
    assert torch.equal(model.denoise(steps=2), reference)


def test_an_exception_in_the_middle_leaves_a_clean_model(model: GeneratedByUNet) -> None:
    fresh, _ = model.run(deepcache(3, 0))
    calls, before = count(), model.unet.mid_block

    def fail(*_: Any) -> None:
        if next(calls) == 4:
            raise KeyboardInterrupt

    handle = model.unet.up_blocks[-1].resnets[-1].register_forward_pre_hook(fail)
    try:
        with pytest.raises(KeyboardInterrupt):
            model.run(deepcache(3, 0))
    finally:
        handle.remove()
    assert model.unet.mid_block is before
    assert torch.equal(model.run(deepcache(3, 0))[0], fresh)


def test_two_pipelines_at_once_do_not_disturb_each_other(model: GeneratedByUNet) -> None:
    other = GeneratedByUNet(model.name)
    alone, _ = model.run(deepcache(3, 0))
    second, _ = other.run(first_blocks(ALWAYS))
    info = GenerationInfo(steps=lambda: 7, flow=False)
    with (
        attach_strategy([model.unet], UNetBlocks(), deepcache(3, 0), info) as first,
        attach_strategy([other.unet], UNetBlocks(), first_blocks(ALWAYS), info) as second_trace,
    ):
        assert torch.equal(other.denoise(on_step=second_trace.end_step), second)
        assert torch.equal(model.denoise(on_step=first.end_step), alone)
    assert (list_computed(first), list_computed(second_trace)) == ([0, 3, 6], [0])


@pytest.mark.parametrize(
    ("cache", "key"),
    [(first_blocks(0.1, 3), "cache.signal.blocks=2"), (deepcache(3, 12), "cache.depth=12")],
)
def test_more_layers_than_there_are_is_an_error(cache: Any, key: str) -> None:
    with pytest.raises(RunError, match=key):
        load_unet("sd15").run(cache)


def test_what_running_layer_by_layer_would_leave_out_is_refused() -> None:
    model = GeneratedByUNet("sd15")
    model.pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.2, b2=1.4)
    with pytest.raises(RunError, match="FreeU"):
        model.run(deepcache(3, 0))
    model.pipe.disable_freeu()
    (sample, *rest), named = record_call(model)
    middle = model.unet.mid_block
    with (
        torch.inference_mode(),
        attach_strategy([model.unet], UNetBlocks(), deepcache(3, 0), GenerationInfo(steps=lambda: 2, flow=False)),
        pytest.raises(RunError, match="mid_block_additional_residual"),
    ):
        model.unet(sample, *rest, **(named | {"mid_block_additional_residual": torch.zeros(1)}))
    assert model.unet.mid_block is middle


def test_group_offloading_loads_each_layer_or_is_refused() -> None:
    """On a CPU nothing moves; but hooks of blocks that are never called would not load anything."""
    reference, _ = load_unet("sd15").run(deepcache(3, 0))
    offload = {"onload_device": torch.device("cpu"), "offload_device": torch.device("cpu")}
    by_leaf, by_block = GeneratedByUNet("sd15"), GeneratedByUNet("sd15")
    by_leaf.unet.enable_group_offload(**offload, offload_type="leaf_level")
    by_block.unet.enable_group_offload(**offload, offload_type="block_level", num_blocks_per_group=1)
    assert torch.equal(by_leaf.run(deepcache(3, 0))[0], reference)
    with pytest.raises(RunError, match="leaf_level"):
        by_block.run(deepcache(3, 0))
