"""Where families say that their blocks are: every family that a block cache can attach to, shrunk."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.caching.generate import ALWAYS, fbcache
from tests.models.staged import encoded, latents
from tests.models.test_every_model import MODELS, SAMPLE, config_of, picture
from wavespeed_runner.caching import attached
from wavespeed_runner.config import Dtype
from wavespeed_runner.models.call import for_task
from wavespeed_runner.models.pretrained import load
from wavespeed_runner.registry import implementation_of


def models() -> list[str]:
    """One model of each family that has blocks."""
    configs = {config_of(name).name: (name, config_of(name)) for name in reversed(MODELS)}
    return sorted(name for name, config in configs.values() if implementation_of("model", config).blocks)


@pytest.mark.parametrize("name", models())
def test_blocks_are_called_as_the_family_says(name: str) -> None:
    config = replace(config_of(name), dtype=Dtype.float32)
    family = implementation_of("model", config)
    pipe = load(family, config, "cpu")
    task = next(iter(family.tasks))
    size: dict[str, Any] = {"width": family.tiny_size, "height": family.tiny_size}
    if family.kind == "video":
        size["num_frames"] = family.tiny_frames
    start = {"image": picture(family.tiny_size)} if task == "image_to_video" else {}
    denoiser = getattr(for_task(pipe, family, task), family.denoiser)
    embeddings = encoded(family, pipe, config, SAMPLE, config.guidance_scale, start.get("image"))

    def run(**more: Any) -> Any:
        made = latents(family, pipe, config, embeddings, task=task, steps=2, **size, **start, **more)
        return made["latents"]

    calls: list[tuple[Any, Any]] = []
    handle = denoiser.register_forward_pre_hook(lambda _, a, k: calls.append((a, dict(k))), with_kwargs=True)
    reference = run()
    handle.remove()
    with attached(denoiser, family.blocks, fbcache(0.0), steps=lambda: 2) as trace:
        assert torch.equal(run(on_step=trace.end_step), reference), "nothing is skipped, nothing may change"
    assert len(trace.decisions) == len(calls) and trace.blocks > 1

    # Were a stream or an index wrong, a hit on the same input would differ from what was computed.
    positional, named = calls[0]
    with torch.inference_mode(), attached(denoiser, family.blocks, fbcache(ALWAYS), steps=lambda: 2) as trace:
        computed = denoiser(*positional, **named)[0]
        trace.end_step()
        skipped = denoiser(*positional, **named)[0]
    assert [decision.computed for decision in trace.decisions] == [True, False]
    assert torch.allclose(skipped, computed, rtol=1e-4, atol=1e-5 * float(computed.abs().max()))
