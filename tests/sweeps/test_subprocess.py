"""A process a job: a killed one is one lost job; the controller's death is its job's; Ctrl-C waits for a record."""

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

from tests.children import started
from wavespeed_runner.sweeps import worker

LONG = 240
"""Seconds; far more than any of this takes."""


def sweep(home: Path, *overrides: str) -> list[str]:
    """Two jobs, the first so long that one can do something about it."""
    given = [
        "hydra/launcher=isolated", "model.init=tiny", "device=cpu", "width=32", "height=32", "steps=2", "measure=none",
        "prompt='a red circle'", "num_images_per_prompt=3000,1", f"outputs={home / 'outputs'}",
    ]  # fmt: skip
    by_key = {override.partition("=")[0]: override for override in (*given, *overrides)}
    return ["-m", *by_key.values()]


def place(home: Path) -> Path:
    (found,) = home.glob("outputs/sweeps/*/*")
    return found


def statuses(home: Path) -> dict[str, str]:
    files = sorted(place(home).glob("*/record.json"))
    return {file.parent.name: json.loads(file.read_text())["status"] for file in files}


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LONG
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


def worker_of(home: Path, number: int) -> int | None:
    """The process that works on a job, once it has begun its record."""
    if not list(home.glob(f"outputs/sweeps/*/*/{number}/record.json")):
        return None
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes().decode().split("\0") if entry.name.isdigit() else []
        except OSError:
            continue
        if "wavespeed_runner.sweeps.worker" in words and str(place(home)) in words and str(number) in words:
            return int(entry.name)
    return None


def is_gone(process: int) -> bool:
    try:
        return (Path("/proc") / str(process) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc")


@pytest.mark.slow
def test_a_killed_job_is_lost_and_the_others_finish(tmp_path: Path) -> None:
    child = started(tmp_path, *sweep(tmp_path))
    os.kill(until(lambda: worker_of(tmp_path, 0)), signal.SIGKILL)
    child.join(LONG)
    said = (tmp_path / "out").read_text()
    assert child.exitcode == 1 and statuses(tmp_path) == {"0": "interrupted", "1": "completed"}, said
    reason = json.loads((place(tmp_path) / "0" / "lost.json").read_text())["reason"]
    assert reason == "its process was killed (SIGKILL): by hand, or by the system because memory ran out"
    assert "1 lost" in said and f"job 0 (num_images_per_prompt=3000): {reason}" in said


@pytest.mark.slow
def test_a_killed_controller_takes_its_job_along_and_the_next_one_goes_on(tmp_path: Path) -> None:
    child = started(tmp_path, *sweep(tmp_path))
    busy = until(lambda: worker_of(tmp_path, 0))
    child.kill()
    until(lambda: is_gone(busy))
    assert statuses(tmp_path) == {"0": "interrupted"}
    child = started(tmp_path, *sweep(tmp_path))
    assert until(lambda: worker_of(tmp_path, 0)) != busy, "it goes on in the same folder"
    assert child.pid is not None
    os.kill(child.pid, signal.SIGINT)
    child.join(LONG)
    said = (tmp_path / "out").read_text()
    assert child.exitcode == 130, said
    record = json.loads((place(tmp_path) / "0" / "record.json").read_text())
    assert record["status"] == "interrupted" and record["error"]["type"] == "KeyboardInterrupt"
    assert (
        "1 interrupted" in said and "1 not run yet" in said and said.splitlines()[-1].startswith("error: interrupted")
    )


@pytest.mark.slow
def test_each_job_has_a_process_of_its_own_and_a_done_one_is_left_alone(tmp_path: Path) -> None:
    given = sweep(tmp_path, "num_images_per_prompt=1", "seed=1,2", "measure.warmup=1")
    child = started(tmp_path, *given)
    child.join(LONG)
    assert child.exitcode == 0, (tmp_path / "out").read_text()
    assert statuses(tmp_path) == {"0": "completed", "1": "completed"}
    loads = [
        json.loads(file.read_text())["stages"][0]["name"] for file in sorted(place(tmp_path).glob("*/record.json"))
    ]
    assert loads == ["load", "load"], "nothing was kept from one to the other"
    before = (place(tmp_path) / "0" / "record.json").stat().st_mtime_ns
    command = [sys.executable, "-m", "wavespeed_runner.sweeps.worker", str(place(tmp_path)), "0"]
    assert subprocess.run(command, timeout=LONG).returncode == 0
    assert (place(tmp_path) / "0" / "record.json").stat().st_mtime_ns == before


def test_a_worker_whose_job_is_another_now_says_so_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"number": 0, "overrides": ["seed=1", f"outputs={tmp_path}"], "identity": "of other code", "skipped": ""}
    about = {"command": ["-m", "seed=1,2", "outputs=x"], "config_dir": None, "cwd": str(tmp_path), "jobs": [job]}
    (tmp_path / "sweep.json").write_text(json.dumps(about))
    monkeypatch.chdir(tmp_path)
    assert worker.main([str(tmp_path), "0"]) == 2
    assert "run the sweep's command again" in capsys.readouterr().err
    assert "have changed" in json.loads((tmp_path / "0" / "lost.json").read_text())["reason"]
    assert worker.main([str(tmp_path), "7"]) == 2 and "no sweep with a job 7" in capsys.readouterr().err
