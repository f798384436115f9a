"""A command line in a folder with links to private files, pipes and devices."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.inputs.hostile_files import SECRET


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    cli = CommandLine(tmp_path, monkeypatch, capsys)
    private = tmp_path / "private"
    private.mkdir()
    for name in ("secret.txt", "secret.png"):
        (private / name).write_text(SECRET)
    (private / "secret.yaml").write_text(f"cache: {SECRET}\ntoken: {SECRET}\n")
    for suffix in ("txt", "png", "yaml"):
        Path(f"link.{suffix}").symlink_to(private / f"secret.{suffix}")
        Path(f"zero.{suffix}").symlink_to("/dev/zero")
        os.mkfifo(f"pipe.{suffix}")
    (cli.configs / "experiment").mkdir()
    (cli.configs / "experiment" / "link.yaml").symlink_to(private / "secret.yaml")
    return cli
