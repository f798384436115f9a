"""Lines of the plan that stand there only when they say something."""

from __future__ import annotations

from collections.abc import Callable

from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]


def test_the_plan_shows_adapters_memory_batches_and_frames(planned: Planned) -> None:
    from wavespeed_runner.cli.plan_text import plan_text

    text = plan_text(planned("adapters=lora", "adapters.path=a/b", "memory=vae_tiling", "batch_size=2"))
    assert "adapters   lora path=a/b" in text and "memory     vae_tiling=True" in text and "batches    of 2" in text
    assert "\nadapters " not in plan_text(planned())
    video = plan_text(planned("model=wan21", "width=64", "height=64", "num_frames=5"))
    assert "videos     1, 64x64 x 5 frames" in video
