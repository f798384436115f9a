"""DeepCache against the package of its authors (PyPI, 0.1.1), where that is installed: to the last bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.caching.generate_unet import MODELS, deepcache, load_unet

BRANCHES = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]
"""The package's (block, layer); with two layers a block the n-th entry is our depth n."""


@pytest.mark.parametrize("interval", [2, 3, 5])
@pytest.mark.parametrize(("block", "layer"), BRANCHES)
@pytest.mark.parametrize("name", MODELS)
def test_same_decisions_and_same_latents_as_deepcache(name: str, block: int, layer: int, interval: int) -> None:
    package = pytest.importorskip("DeepCache")
    model, branch = load_unet(name), 3 * block + layer
    ran: list[Any] = []
    handle = model.unet.mid_block.resnets[0].register_forward_pre_hook(lambda *_: ran.append(steps[-1]))
    steps = [0]
    helper = package.DeepCacheSDHelper(pipe=model.pipe)
    helper.set_params(cache_interval=interval, cache_branch_id=branch)
    helper.enable()
    try:
        theirs = model.denoise(on_step=lambda: steps.append(steps[-1] + 1))
    finally:
        helper.disable()
        handle.remove()
    plain = model.denoise()

    ours, trace = model.run(deepcache(interval, branch))

    assert [d.step for d in trace.decisions if d.computed] == ran == list(range(0, 7, interval))
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, plain)
