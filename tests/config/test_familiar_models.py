"""`cfg` and `denoise`: what they are depends on the model, and the strength that is named runs as many steps."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.command_line import CommandLine
from wavespeed_runner.config.familiar_models import work_out_strength
from wavespeed_runner.models.family import starts_from_image
from wavespeed_runner.registry import list_names, lookup


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


SAID = {
    "model=flux cfg=1": "cfg: no such key; leave it out: on this model cfg is true classifier-free guidance, and 1",
    "model=flux cfg=1.0": "(ComfyUI's FluxGuidance is guidance_scale)",
    "model=hunyuan_video cfg_scale=1": "cfg_scale: no such key; leave it out: on this model",
    "model=flux cfg=4": "here it is model.true_cfg_scale=4 negative_prompt=TEXT: on this model cfg is true",
    "model=flux negative_prompt=x cfg=4": "here it is model.true_cfg_scale=4: on this model",
    "model=flux2 cfg=4": "leave it out: on this model cfg is true classifier-free guidance, which is not supported",
    "model=flux_fill cfg=4": "leave it out: on this model cfg is true classifier-free guidance, which is not supported",
    "model=flux guidance=3.5": "here it is guidance_scale=3.5",
    "model=sdxl cfg=1": "here it is guidance_scale=1",
    "model=flux_schnell cfg=1": "here it is guidance_scale=1",
    "model=flux model.guidance=true_cfg cfg=4": "here it is guidance_scale=4",
    "cfg=7": "here it is guidance_scale=7",
}
IMAGE = "graph=image_to_image"
SAID |= {
    f"model=sdxl {IMAGE} steps=20 denoise=0.35": "here it is steps=57 strength=0.351 (ComfyUI runs all "
    "its steps, the last 20 of 57; here",
    f"model=flux {IMAGE} steps=20 denoise=0.35": "here it is steps=57 strength=0.35 (ComfyUI",
    f"model=sdxl {IMAGE} steps=30 denoise=0.6": "here it is steps=50 strength=0.6 (ComfyUI",
    f"{IMAGE} steps=30 denoise=0.6": "here it is steps=50 strength=0.6 (ComfyUI",
    f"model=sdxl {IMAGE} num_inference_steps=20 denoise=0.35": "num_inference_steps: no such key; with denoise it is "
    "steps=57; denoise: here it is steps=57 strength=0.351",
    f"model=sdxl {IMAGE} denoise=0.35": "here it is strength=0.35 (ComfyUI runs all its steps, here that part of",
    f"model=sdxl {IMAGE} denoise=1": "here it is strength=1",
    "model=sdxl denoise=1": "denoise: no such key; leave it out: at 1 all steps run, from noise",
    f"model=sdxl {IMAGE} steps=20 denoise=0.01": "which is refused: steps=2000: at most 1000 steps",
    f"model=sdxl {IMAGE} steps=20 denoise=1e-310": "here it is strength=1e-310",  # 20 / 1e-310 is no number
    f"model=sdxl {IMAGE} steps={'9' * 400} denoise=0.5": "here it is strength=0.5 (ComfyUI runs all its steps, here",
    f"model=sdxl {IMAGE} steps=20 denoising_strength=0.35": "here it is strength=0.35",  # A1111's is ours
}


@pytest.mark.parametrize(("typed", "words"), SAID.items(), ids=[typed[:80] for typed in SAID])
def test_a_word_is_told_as_it_is_for_the_model(command: CommandLine, typed: str, words: str) -> None:
    said = command.refuses(*typed.split(" "))
    assert words in said, said


@pytest.mark.parametrize("name", ["calibrate", "estimate"])
def test_other_commands_than_a_run_which_are_not_tried_know_the_models_keys(command: CommandLine, name: str) -> None:
    assert "cfg: no such key; leave it out: " in command.refuses_command(name, "model=flux2", "cfg=4")
    assert "here it is model.true_cfg_scale=4" in command.refuses_command(name, "model=flux", "cfg=4")


def test_what_is_named_for_guidance_is_accepted(command: CommandLine) -> None:
    way = re.search(r"here it is (.*?):", command.refuses("model=flux", "cfg=4"))
    assert way
    command.plans("model=flux", "model.init=tiny", *way[1].split(" "))


@pytest.mark.parametrize(("model", "cache"), [("demo_unet", "deepcache"), ("demo", "fbcache")])
def test_what_is_named_for_denoise_runs_as_many_steps_as_comfyui(command: CommandLine, model: str, cache: str) -> None:
    """The trace of a cache has one line for each step that ran."""
    typed = [f"model={model}", IMAGE]
    way = re.search(r"here it is (.*?) \(", command.refuses(*typed, "steps=20", "denoise=0.35"))
    assert way
    assert command("outputs=out", "prompt=x", "measure=none", f"cache={cache}", *typed, *way[1].split(" ")).status == 0
    (trace,) = command.folder.glob("out/runs/**/trace.csv")
    assert len(trace.read_text().splitlines()) == 1 + 20


FROM_IMAGE = sorted(
    {
        (lookup("model", name).implementation.schedule, pipeline)
        for name in list_names("model")
        for task, pipeline in lookup("model", name).implementation.tasks.items()
        if starts_from_image(lookup("model", name).implementation, task)
    }
)
"""(kind of model, pipeline of diffusers) that begins with an image."""


@pytest.mark.parametrize(("schedule", "pipeline"), FROM_IMAGE)
@settings(max_examples=60, deadline=None)
@given(steps=st.integers(1, 150), percent=st.integers(1, 99))
def test_a_strength_runs_as_many_steps_as_were_typed(schedule: str, pipeline: str, steps: int, percent: int) -> None:
    """By the very code of each pipeline; ComfyUI builds int(steps / denoise) steps and runs the last of them."""
    whole = int(steps / (percent / 100))
    strength = work_out_strength(steps, whole, is_flow=schedule == "flow")
    assert count_steps(pipeline, whole, float(strength)) == steps
    assert abs(float(strength) - steps / whole) < 1.1e-3


def count_steps(pipeline: str, whole: int, strength: float) -> int:
    scheduler = SimpleNamespace(
        timesteps=list(range(whole)), order=1, set_begin_index=lambda index: None, config={}, sigmas=[]
    )
    found: Any = getattr(diffusers, pipeline).get_timesteps(
        SimpleNamespace(scheduler=scheduler), num_inference_steps=whole, strength=strength, device="cpu"
    )
    assert len(found[0]) == found[1]
    return len(found[0])
