"""All words of a command line that are another tool's are answered in one message."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.command_line import CommandLine


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


SAID = {
    "model=sdxl cfg=5 sampler_name=dpmpp_2m scheduler=simple": "cfg: no such key; here it is guidance_scale=5; "
    "sampler_name: here it is sampler=dpmpp_2m; "
    "scheduler: here it is sampler=dpmpp_2m sampler.timestep_spacing=trailing",
    "run model=sdxl cfg=5 neg=x": "cfg: no such key; here it is guidance_scale=5; neg: here it is negative_prompt=x",
    "model=flux sampler=euler_a guidance=3": "sampler=euler_a: no option 'euler_a' in config group 'sampler' "
    "(did you mean 'euler_ancestral'?); guidance: here it is guidance_scale=3",
    "model=flux foo=1 guidance=3": "foo: no such key; guidance: here it is guidance_scale=3",
    "model=flux guidance=3 steps=-1": "guidance: no such key; here it is guidance_scale=3",
    "model=flux cache=fbcache cache.rdt=0.1 guidance=3": "cache.rdt: no such key; here it is "
    "cache.residual_diff_threshold=0.1; guidance: here it is guidance_scale=3",
}


@pytest.mark.parametrize(("typed", "words"), SAID.items(), ids=SAID)
def test_every_word_is_answered(command: CommandLine, typed: str, words: str) -> None:
    assert command.refuses_command(*typed.split(" ")) == words


def test_each_answer_is_tried_without_the_other_words(command: CommandLine) -> None:
    """And with the option that another one means: img2img, which takes a strength."""
    said = command.refuses("model=sdxl", "graph=img2img", "steps=20", "denoise=0.35", "cfg_rescale=0.7")
    assert "denoise: here it is steps=57 strength=0.351 (ComfyUI" in said
    assert "cfg_rescale: here it is model.guidance_rescale=0.7" in said and "refused" not in said
    assert "which is refused: strength" in command.refuses("model=sdxl", "steps=20", "denoise=0.35", "cfg_rescale=0.7")


@pytest.mark.parametrize("words", [["cfg=4", "neg=x"], ["neg=x", "cfg=4"]])
def test_each_answer_is_tried_with_what_the_others_mean(command: CommandLine, words: list[str]) -> None:
    """Without true guidance nothing uses the negative prompt of FLUX."""
    said = command.refuses("model=flux", *words)
    assert "neg: " in said and "here it is negative_prompt=x" in said and "refused" not in said
    assert "which is refused: negative_prompt" in command.refuses("model=flux", "neg=x", "foo=1")


def test_what_is_said_of_one_is_not_said_of_the_next(command: CommandLine) -> None:
    said = command.refuses("model=flux", "start=20", "end=80")
    assert said.count("Comfy-WaveSpeed") == 1
    assert "here it is cache=wavespeed cache.start=0.2" in said
    assert said.endswith("end: here it is cache=wavespeed cache.end=0.8 (80 percent as a part of 1)")


def test_what_is_told_makes_a_command_that_is_accepted(command: CommandLine) -> None:
    said = command.refuses("model=sdxl", "cfg=5", "sampler_name=euler", "scheduler=karras", "num_steps=20")
    ways = " ".join(re.findall(r"here it is ([^;(]*)", said)).split()
    command.plans("model=sdxl", "model.init=tiny", *ways)


def test_words_beyond_the_most_that_are_answered_are_counted(command: CommandLine) -> None:
    words = [f"foo{number}=1" for number in range(40)]
    assert command.refuses("model=sdxl", *words[:8]).endswith("; foo7: no such key")
    assert command.refuses("model=sdxl", *words[:10]).endswith("; foo7: no such key; and 2 more")
    assert command.refuses("model=sdxl", *words).endswith("; foo7: no such key; and 16 more at least")


def test_in_a_sweep_and_for_a_word_alone(command: CommandLine) -> None:
    said = command.refuses("-m", "model=sdxl,sd15", "cfg=5,6", "neg=x")
    assert "guidance_scale=5" in said and "negative_prompt=x" in said
    assert "(allowed: " in command.refuses("foo=1")
