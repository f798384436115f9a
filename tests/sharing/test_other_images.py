"""Images of other programs: what was found in them is said, and nothing of them is run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.command_line import CommandLine
from tests.sharing.replay_helpers import Finished, first_image
from wavespeed_runner.media.images import read_png
from wavespeed_runner.records.a1111 import A1111_KEY

A1111 = """a red circle, (best:1.2)
Negative prompt: a blur
Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 965400086, Size: 512x512, Model hash: 45dee52b, Model: mine"""
WORKFLOW = {
    "3": {
        "class_type": "KSampler",
        "inputs": {
            "seed": 8,
            "steps": 20,
            "cfg": 8.0,
            "sampler_name": "euler",
            "model": ["4", 0],
        },
    },
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "mine.safetensors"}},
}
OTHERS: dict[str, tuple[dict[str, str], str]] = {
    "a1111": (
        {"parameters": A1111},
        "settings as A1111's web UI writes them (Steps: 20, Sampler: Euler a, CFG",
    ),
    "a1111, but words": ({"parameters": "a\x1b[2Jb"}, "settings as A1111's web UI writes them, and no config"),
    "comfyui": (
        {"prompt": json.dumps(WORKFLOW), "workflow": "{}", "parameters": A1111},
        "a workflow of ComfyUI (KSampler: seed 8, steps 20, cfg 8.0, sampler_name euler), and no config",
    ),
    "comfyui, damaged": ({"prompt": '{"3": [' * 1000}, "a workflow of ComfyUI, and no config of wavespeed_runner"),
    "comfyui, no nodes": ({"prompt": '["x", {"3": 1}]'}, "a workflow of ComfyUI, and no config of wavespeed_runner"),
    "another": (
        {"Comment": "x", "Software": "y"},
        "no config of wavespeed_runner in the metadata, whose texts are Com",
    ),
    "none": ({}, "no config of wavespeed_runner in the metadata (a screenshot, or saved by another program)"),
}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def write_other(file: Path, texts: dict[str, str]) -> None:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, pnginfo=info)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_was_found_is_said(cli: CommandLine, tmp_path: Path, kind: str) -> None:
    texts, words = OTHERS[kind]
    file = tmp_path / "x.png"
    write_other(file, texts)
    for command in ([f"from={file}"], ["export", str(file)], ["replay", str(file)]):
        refusal = cli.refuses_command(*command)
        assert f"{file}: {words}" in refusal and refusal.isprintable()
        assert ("type them, prompt='...'" in refusal) == (not refusal.startswith(f"{file}: no config")), refusal


def test_an_image_of_ours_that_another_program_saved_is_known(
    cli: CommandLine, tmp_path: Path, finished: Finished
) -> None:
    _, texts = read_png(first_image(finished))
    write_other(tmp_path / "x.png", {A1111_KEY: texts[A1111_KEY]})
    refusal = cli.refuses_command(f"from={tmp_path / 'x.png'}")
    assert "the settings of wavespeed_runner in words alone" in refusal
