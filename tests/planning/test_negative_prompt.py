"""The negative prompt: what is given wins, else the model's own where guidance reads it, and the plan says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.sweeps.jobs import plan_jobs

TINY = ("model.init=tiny", "device=cpu", "steps=2", "measure=none", "prompt=x")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def plan(*overrides: str) -> Plan:
    (job,) = plan_jobs(parse_arguments([*TINY, *overrides]))
    assert job.plan is not None
    return job.plan


def read(found: Plan) -> tuple[str, str]:
    """The negative prompt of the images, and why."""
    why = "".join(change.why for change in found.changes if change.key == "negative_prompt")
    return found.samples[0].negative_prompt, why


def test_the_models_own_is_used_and_said(command: CommandLine) -> None:
    negative, why = read(plan("model=ltx_video"))
    assert negative.startswith("worst quality, inconsistent motion") and why.startswith("the model's own")
    printed = command.plans(*TINY, "model=wan21")
    assert "negative_prompt=色调艳丽" in printed and "negative_prompt='' for none" in printed


@pytest.mark.parametrize(("model", "own"), [("qwen_image", " "), ("chroma", "low quality, ugly, unfinished, out of")])
def test_image_models_whose_makers_run_them_with_one(command: CommandLine, model: str, own: str) -> None:
    negative, why = read(plan(f"model={model}"))
    assert negative.startswith(own) and why.startswith("the model's own")


@pytest.mark.parametrize(("given", "expected"), [("negative_prompt=dark", "dark"), ("negative_prompt=''", "")])
def test_what_is_given_wins(command: CommandLine, given: str, expected: str) -> None:
    assert read(plan("model=ltx_video", given)) == (expected, "")


def test_without_guidance_nothing_reads_it(command: CommandLine) -> None:
    assert read(plan("model=ltx_video", "guidance_scale=1")) == ("", "no guidance reads the model's own")


def test_a_model_without_one_has_none_and_nothing_is_said(command: CommandLine) -> None:
    assert read(plan("model=sd15")) == ("", "")
    assert read(plan("model=sd15", "model.negative_prompt=1.50"))[0] == "1.50"


def test_tiny_models_read_letters_so_a_long_one_is_left_out(command: CommandLine) -> None:
    negative, why = read(plan("model=ltx2"))
    assert negative == "" and "each letter is a token" in why
    assert read(plan("model=ltx2", "model.init=random"))[0].startswith("blurry, out of focus")


def test_guidance_of_the_audio_alone_reads_it(command: CommandLine) -> None:
    own = ("model=ltx2", "model.negative_prompt=dark", "guidance_scale=1")
    assert read(plan(*own))[0] == "dark"
    assert read(plan(*own, "model.audio_guidance_scale=null"))[0] == ""
