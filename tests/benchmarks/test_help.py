"""`--help` of every command of benchmarks and training tells what it does, and does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
ASKS = ("parse_args", "command", "argv")
"""What reads the command line: argparse, training.trainer.command, sys.argv."""


def find_commands() -> list[str]:
    """Modules of both folders that can be run."""
    files = [*(ROOT / "benchmarks").rglob("*.py"), *(ROOT / "training").rglob("*.py")]
    runnable = [file for file in files if "\nif __name__ ==" in file.read_text(encoding="utf-8")]
    return sorted(".".join(file.relative_to(ROOT).with_suffix("").parts) for file in runnable)


@pytest.mark.parametrize("name", find_commands())
def test_every_command_reads_its_command_line(name: str) -> None:
    tree = ast.parse((ROOT / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
    assert [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr in ASKS]


@pytest.mark.parametrize("name", ["benchmarks.readme", "training.unet"])
@pytest.mark.parametrize(("typed", "status"), [("--help", 0), ("stesp=3", 2)])
def test_help_runs_nothing(
    name: str, typed: str, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("it ran something")

    module = import_module(name)
    monkeypatch.setattr(sys, "argv", [name, typed])
    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(Path, "write_text", refuse)
    if hasattr(module, "level_shares"):
        monkeypatch.setattr(module, "level_shares", refuse)
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == status
    first = (module.__doc__ or "").split("\n")[0]
    assert status or first in " ".join(capsys.readouterr().out.split())
