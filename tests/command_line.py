"""The command line, called in this process in an empty folder: much faster than a process each time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra.core.global_hydra import GlobalHydra

from wavespeed_runner.cli.main import main

HEAVY = {"torch", "diffusers", "transformers"}
TINY = ("model.init=tiny", "device=cpu")


class Said(NamedTuple):
    status: int
    out: str
    err: str


class CommandLine:
    """Calls with arguments; `configs` is a folder for `--config-dir`, `folder` is where the calls run."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self.configs, self.capsys = home / "here", home / "configs", capsys
        self.folder.mkdir()
        self.configs.mkdir()
        monkeypatch.chdir(self.folder)

    def config(self, name: str, text: str) -> None:
        """Adds the YAML file `name` to the user's configs."""
        file = self.configs / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def experiment(self, text: str, name: str = "mine") -> None:
        """Adds an experiment file; its header is written here."""
        self.config(f"experiment/{name}", f"# @package _global_\n{text}")

    def __call__(self, *arguments: str) -> Said:
        GlobalHydra.instance().clear()
        status = main(list(arguments))
        return Said(status, *self.capsys.readouterr())

    def plans(self, *arguments: str) -> str:
        """The plan that is printed for what must be right, with the user's configs; nothing may be written."""
        said = self("--config-dir", str(self.configs), "dry_run=true", *arguments)
        assert (said.status, said.err) == (0, "")
        assert self.left() == []
        return said.out

    def refuses(self, *arguments: str) -> str:
        """The error, after its prefix, of what must be refused: one line, status 2, nothing written, nothing loaded."""
        return self.refuses_command("--config-dir", str(self.configs), *arguments)

    def refuses_command(self, *arguments: str) -> str:
        """As `refuses`, of a command line as it is: the first argument may be a command."""
        before, loaded = self.left(), HEAVY & sys.modules.keys()
        said = self(*arguments)
        assert said.status == 2, said
        assert said.out == "" and said.err.count("\n") == 1 and said.err.startswith("error: ")
        assert self.left() == before
        assert HEAVY & sys.modules.keys() == loaded
        return said.err.removeprefix("error: ").strip()

    def left(self) -> list[str]:
        """What lies in the folder where the calls run."""
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))
