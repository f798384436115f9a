"""Lines of the plan that stand there only when they say something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]
PARTS = "".join(
    f"  - {part}\n"
    for part in ("signal: first_block_residual", "criterion: relative_change", "predictor: reuse", "_self_")
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_the_plan_shows_adapters_memory_batches_and_frames(planned: Planned) -> None:
    from wavespeed_runner.cli.plan_text import plan_text

    text = plan_text(planned("adapters=lora", "adapters.path=a/b", "memory=vae_slicing", "batch_size=2"))
    assert "adapters   lora path=a/b" in text and "memory     vae_slicing=True" in text and "batches    of 2" in text
    assert "\nadapters " not in plan_text(planned())
    video = plan_text(planned("model=wan21", "width=64", "height=64", "num_frames=5"))
    assert "videos     1, 64x64 x 5 frames" in video


@pytest.mark.parametrize(
    ("overrides", "run"),
    [
        # What diffusers' FluxImg2ImgPipeline.get_timesteps and StableDiffusionImg2ImgPipeline.get_timesteps leave.
        (["steps=28"], 17),
        (["steps=28", "strength=0.55"], 16),
        (["steps=25", "strength=0.5", "model=demo_unet"], 12),
    ],
)
def test_the_plan_says_how_many_steps_run_from_an_image(planned: Planned, overrides: list[str], run: int) -> None:
    from wavespeed_runner.cli.plan_text import plan_text

    plan = planned("graph=image_to_image", *overrides)
    c = plan.config
    assert f"{c.steps} steps, of which {run} run at strength {c.strength:g} (denoise)" in plan_text(plan)
    whole = planned("graph=text_to_image", *(override for override in overrides if "strength" not in override))
    assert "of which" not in plan_text(whole)


def test_a_strategy_of_the_users_and_a_preset_have_the_names_of_their_files(command: CommandLine) -> None:
    command.config("cache/steady", f"defaults:\n  - /schema/cache/custom@_here_\n{PARTS}start: 0.2\n")
    assert "cache steady\n" in command.plans(*TINY, "cache=steady", "steps=20")
    assert "cache=none instead of steady" in command.plans(*TINY, "cache=steady", "steps=20")
    assert "cache balanced\n" in command.plans(*TINY, "cache=balanced", "model=demo_unet")
    assert "cache fbcache\n" in command.plans(*TINY, "cache=fbcache")
    assert command.refuses(*TINY, "cache=steady", "cache.start=1").startswith("cache.start=1")
    swept = command.plans("-m", *TINY, "cache=steady,fbcache", "steps=20")
    assert "cache=steady" in swept and "cache custom" not in swept
