"""A model folder that cannot be built is refused with exit status 2: before anything is written, where it is local."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine
from tests.models.test_every_model import config_of
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.execution import refusals
from wavespeed_runner.models.weights import pretrained
from wavespeed_runner.models.weights.pretrained import load
from wavespeed_runner.registry import find_implementation

pytestmark = pytest.mark.slow

RUN = ("model=sd15", "device=cpu", "measure=none", "prompt=x", "steps=1", "width=64", "height=64")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = config_of("sd15")
    home = tmp_path_factory.mktemp("sd15")
    load(find_implementation("model", config), config, "cpu").save_pretrained(home)
    return home


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.fixture
def hostile(folder: Path) -> Any:
    """The folder with another number of blocks, put right afterwards."""
    file = folder / "unet" / "config.json"
    before = file.read_text()
    file.write_text(json.dumps(json.loads(before) | {"layers_per_block": 1000, "transformer_layers_per_block": 1000}))
    yield folder
    file.write_text(before)


def test_nothing_is_written_for_a_folder_that_cannot_be_built(command: CommandLine, hostile: Path) -> None:
    said = command(*RUN, f"model.repo={hostile}")
    assert said.status == 2 and said.out == "" and said.err.count("\n") == 1
    assert "component 'unet' (UNet2DConditionModel, unet/*.json) cannot be built: config.json asks for" in said.err
    assert not list(command.folder.iterdir())


def test_what_is_in_the_store_needs_no_model(
    command: CommandLine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Any] = []
    original = pretrained.refuse_unbuildable

    def note(*args: Any) -> None:
        tried.append(args)
        original(*args)

    monkeypatch.setattr(pretrained, "refuse_unbuildable", note)
    for is_stored in (False, True):
        assert command(*RUN, f"model.repo={folder}").status == 0
        assert bool(tried) is not is_stored
        tried.clear()


def test_a_refusal_during_a_run_has_the_same_exit_status(
    command: CommandLine, hostile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a repository on the hub: it is here only once the run has begun."""
    monkeypatch.setattr(refusals, "try_local_folder", lambda *_: None)
    said = command(*RUN, f"model.repo={hostile}")
    assert said.status == 2 and said.out == "" and said.err.count("\n") == 1
    assert "cannot be built: config.json asks for" in said.err and "record.json)" in said.err
    (record,) = command.folder.rglob("record.json")
    assert json.loads(record.read_text())["error"]["type"] == ConfigError.__name__
    assert command("replay", str(record)).status == 2


def test_replay_writes_nothing_for_it_either(command: CommandLine, folder: Path) -> None:
    assert command(*RUN, f"model.repo={folder}").status == 0
    (record,) = command.folder.rglob("record.json")
    file = folder / "vae" / "config.json"
    before, runs = file.read_text(), sorted(command.folder.glob("outputs/runs/*/*"))
    try:
        file.write_text(json.dumps(json.loads(before) | {"layers_per_block": 10**5}))
        said = command("replay", str(record))
        file.write_text(json.dumps(json.loads(before) | {"norm_num_groups": 7}))
        later = command("replay", str(record))
    finally:
        file.write_text(before)
    assert (said.status, later.status) == (2, 2) and "component 'vae'" in later.err
    assert sorted(command.folder.glob("outputs/runs/*/*")) == runs
