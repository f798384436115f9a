"""Export: what could not be run again is not written, and nothing is written through a link."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine

Finished = tuple[Path, dict[str, Any]]

UNPLANNABLE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a seed": (lambda c: c.update(seed=2**70), "seed=1180591620717411303424"),
    "a negative prompt": (lambda c: c.update(negative_prompt="blur", guidance_scale=1.0), "negative_prompt"),
    "a revision": (
        lambda c: c["model"].update(init="pretrained", repo="pkg://wavespeed_runner/x", revision="main"),
        "model.revision=main",
    ),
}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def write_record(finished: Finished, folder: Path, change: Callable[[dict[str, Any]], Any], **changes: Any) -> Path:
    """A copy of the finished run's record with a changed config."""
    record = json.loads((finished[0] / "record.json").read_text()) | changes
    change(record["config"])
    (folder / "record.json").write_text(json.dumps(record))
    return folder / "record.json"


@pytest.mark.parametrize("to", [(), ("to=diffusers",)], ids=["experiment", "script"])
@pytest.mark.parametrize("attack", UNPLANNABLE)
def test_what_replay_would_refuse_is_not_written(
    finished: Finished, cli: CommandLine, tmp_path: Path, attack: str, to: tuple[str, ...]
) -> None:
    change, words = UNPLANNABLE[attack]
    path = write_record(finished, tmp_path, change)
    said = cli("export", str(path), "name=mine", *to)
    assert (said.status, said.out) == (2, "") and said.err.startswith(f"error: {path}: its config cannot be run")
    assert words in said.err and not list(cli.folder.iterdir())


@pytest.mark.parametrize("lacking", [{"device": "cuda:7"}, {"attention": {"name": "sage"}}], ids=str)
def test_what_only_this_machine_lacks_is_exported(
    finished: Finished, cli: CommandLine, tmp_path: Path, lacking: dict[str, Any]
) -> None:
    assert cli("export", str(write_record(finished, tmp_path, lambda c: c.update(lacking))), "name=mine").status == 0


@pytest.mark.parametrize(("override", "words"), [("--cfg", "--cfg: KEY="), ("", "an override without text: KEY=")])
def test_an_override_that_is_none_is_told_with_the_file(
    finished: Finished, cli: CommandLine, tmp_path: Path, override: str, words: str
) -> None:
    path = write_record(finished, tmp_path, lambda c: None, overrides=[override])
    said = cli("export", str(path), "name=mine")
    assert said.status == 2 and said.err.startswith(f"error: {path}: {words}VALUE or GROUP=OPTION is needed")


def test_a_default_folder_that_is_a_link_is_refused_and_one_that_was_typed_is_not(
    finished: Finished, cli: CommandLine, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    Path("experiment").symlink_to(tmp_path / "elsewhere")
    said = cli("export", str(finished[0]), "name=base")
    assert said.status == 2 and "experiment is a link that leads elsewhere" in said.err
    assert not list((tmp_path / "elsewhere").iterdir())
    assert cli("export", str(finished[0]), "name=base", "out=experiment/base.yaml").status == 0


def test_a_pipe_is_no_recipe_and_is_told_as_what_it_is(cli: CommandLine) -> None:
    os.mkfifo("x.yaml")
    said = cli("from=x.yaml", "dry_run=true")
    assert said.status == 2 and "x.yaml: not a regular file; give" in said.err
