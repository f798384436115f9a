"""`model=` with a file, a folder or a hub id that no option is: the message says what to type."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import CommandLine


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


TYPED = {
    "x.safetensors": "and there is none of this name: model=FAMILY model.repo=x.safetensors",
    "files/whole.gguf": "a single file is the repo of its family: model=FAMILY model.repo=files/whole.gguf",
    "old.ckpt": "a pickle, which can run any code when it is opened; model=FAMILY model.repo=FILE.safetensors",
    "owner/name": "a model of the hub is the repo of its family: model=FAMILY model.repo=owner/name",
    "https://huggingface.co/owner/name": "model=FAMILY model.repo=owner/name",
    "stabilityai/stable-diffusion-xl-base-1.0": "model=sdxl is this model",
    "./files": "this folder has no model_index.json, so it is no diffusers pipeline; give the folder that has one; "
    "a single file in it: model=FAMILY model.repo=files/whole.gguf",
    "empty/": "so it is no diffusers pipeline; give the folder that has one",
    "": "the name of an option is needed, or a folder: model=FOLDER",
    "./missing": "no folder of weights is there; a diffusers folder is model=FOLDER",
    "../missing": "no folder of weights is there; a diffusers folder is model=FOLDER",
    "mine": "an option is a name, and a folder here is model=./mine",
    "sdx": "no option 'sdx' in config group 'model' (did you mean 'sdxl'?)",
}


@pytest.mark.parametrize(("typed", "words"), TYPED.items(), ids=TYPED)
def test_what_no_option_is_gets_its_way_to_be_typed(command: CommandLine, typed: str, words: str) -> None:
    for folder in ("files", "empty", "mine"):
        (command.folder / folder).mkdir()
    (command.folder / "files" / "whole.gguf").touch()
    (command.folder / "mine" / "model_index.json").write_text("{}")
    said = command.refuses(f"model={typed}")
    assert said.startswith(f"model={typed}: ") and words in said
