"""A sweep on a real Slurm, as a process that tests start, watch and start again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("WAVESPEED_TEST_SLURM", "")
"""Of a Slurm that is ours to disturb; .ci/slurm sets it."""
LONG = 240
"""Seconds; far more than any of this takes."""
TINY = ("model.init=tiny", "width=32", "height=32", "steps=2", "device=cpu", "prompts=file", "prompts.path=prompts.txt")
ONCE = ("measure=none", "measure.repeats=1")
PROMPTS = ("a red circle", "a blue square", "a green triangle", "a red square", "a blue circle")


class Sweep:
    """A command with `hydra/launcher=slurm`, in a folder of its own, that can be started, watched and started again."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home / "sweep"
        (home / "prompts.txt").write_text("\n".join(PROMPTS) + "\n", encoding="utf-8")

    def start(self, *overrides: str, **environment: str) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "wavespeed_runner", "-m", "hydra/launcher=slurm", "hydra.launcher.poll=0.5", *TINY,
            f"outputs={self.home / 'outputs'}", f"hydra.sweep.dir={self.folder}", *overrides,
        ]  # fmt: skip
        return subprocess.Popen(
            command, cwd=self.home, env={**os.environ, **environment}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=_allow_interrupts,
        )  # fmt: skip

    def run(self, *overrides: str, **environment: str) -> tuple[int, str]:
        """Exit status and output."""
        return ended(self.start(*overrides, **environment))

    def record(self, number: int) -> dict[str, Any]:
        """{} where there is none yet."""
        try:
            record = json.loads((self.folder / str(number) / "record.json").read_text())
        except FileNotFoundError:
            return {}
        assert isinstance(record, dict)
        return record

    def status(self, number: int) -> str | None:
        return self.record(number).get("status")

    def has_images(self, number: int, count: int = 1) -> Callable[[], bool]:
        return lambda: len(self.record(number).get("samples", ())) >= count

    def submitted(self) -> dict[str, Any]:
        """What `slurm.json` says; {} where there is none yet."""
        file = self.folder / "slurm.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def task(self, number: int) -> str:
        """Slurm's id."""
        return str(self.submitted()["tasks"][str(number)]["id"])


def _allow_interrupts() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and children take that over."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        output, _ = process.communicate(timeout=LONG)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(f"still running after {LONG} s: {process.communicate()[0]}")
    return process.returncode, output


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LONG).stdout


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end, slurm("squeue", "-r", "-t", "all")
        time.sleep(0.3)


def processes_of(folder: Path) -> list[str]:
    """Command lines that name the folder."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue
        if str(folder) in line:
            lines.append(line)
    return lines
