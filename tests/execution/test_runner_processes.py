"""Runs between processes: kills, rivals, Ctrl-C and limits of the system leave whole files; the next run goes on."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.children import started
from tests.conftest import CACHED, TINY, run_as_data
from wavespeed_runner.media.images import read_png
from wavespeed_runner.storage.store import Store

REPO = Path(__file__).resolve().parents[2]
LONG = 60
"""Seconds; far more than any of this takes."""


def command(folder: Path, *overrides: str) -> list[str]:
    """Two images with their references."""
    prompts = folder / "prompts.txt"
    prompts.write_text("a red circle\na blue square\n")
    given = [o for o in (*TINY, *CACHED) if not o.startswith(("prompt=", "measure=none", "steps=4"))]
    return [*given, "prompts=file", f"prompts.path={prompts}", f"outputs={folder / 'outputs'}", *overrides]


def records(folder: Path) -> list[dict[str, Any]]:
    """Of all runs, in the order in which they were started."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("outputs/runs/*/*/record.json"))]


def images(record: dict[str, Any]) -> list[str]:
    return [sample["pixels_sha256"] for sample in record["samples"]]


def check_whole(folder: Path) -> None:
    """Every file under its final name can be read."""
    for path in folder.glob("outputs/runs/**/*"):
        if not path.name.startswith("."):
            if path.suffix == ".png":
                read_png(path)
            if path.suffix == ".json":
                json.loads(path.read_text())
    assert Store(folder / "outputs" / "store").verify() == 0


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_killed_at_any_moment_the_same_command_goes_on_and_completes(tmp_path: Path) -> None:
    def has_stored(entries: int) -> bool:
        return len(list(tmp_path.glob("outputs/store/??/*.entry"))) >= entries

    for entries in random.sample(range(9), 5):
        child = started(tmp_path, *command(tmp_path))
        until(lambda: has_stored(entries) or not child.is_alive())  # noqa: B023
        time.sleep(random.uniform(0, 0.1))
        child.kill()
        child.join(LONG)
        check_whole(tmp_path)
    child = started(tmp_path, *command(tmp_path))
    child.join(LONG)
    assert child.exitcode == 0, (tmp_path / "out").read_text()
    check_whole(tmp_path)
    *killed, last = records(tmp_path)
    assert last["status"] == "completed" and len(last["samples"]) == 2
    assert {record["status"] for record in killed} <= {"interrupted", "completed"}
    assert all(images(record) == images(last)[: len(record["samples"])] for record in killed)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_one_line_and_its_record_says_how_far_it_came(tmp_path: Path, number: int) -> None:
    child = started(tmp_path, *command(tmp_path, "measure.repeats=5"))
    until(lambda: any(record["samples"] for record in records(tmp_path)))
    assert child.pid is not None
    os.kill(child.pid, number)
    child.join(LONG)
    (record,) = records(tmp_path)
    assert child.exitcode == 130
    assert record["status"] == "interrupted" and record["error"]["type"] == "KeyboardInterrupt"
    assert len(record["samples"]) == 1 and record["timing"]["median"] > 0
    assert (tmp_path / "out").read_text().splitlines()[-1].startswith("error: interrupted; run the same command again")


def test_two_runs_at_once_into_one_store_both_finish_with_the_same_images(tmp_path: Path) -> None:
    children = [started(tmp_path, *command(tmp_path), name=name) for name in ("one", "two")]
    for child in children:
        child.join(LONG)
    assert [child.exitcode for child in children] == [0, 0]
    one, two = records(tmp_path)
    assert images(one) == images(two) and len(images(one)) == 2
    assert Store(tmp_path / "outputs" / "store").size()[0] == 10
    check_whole(tmp_path)


def test_a_file_that_the_system_cuts_short_fails_the_run_with_one_line(tmp_path: Path) -> None:
    child = started(tmp_path, *command(tmp_path), limits={resource.RLIMIT_FSIZE: 20_000})
    child.join(LONG)
    (record,) = records(tmp_path)
    assert child.exitcode == 1 and record["status"] == "failed"
    (line,) = (tmp_path / "out").read_text().splitlines()
    assert line.startswith("error: stage images: ") and "File too large" in line
    check_whole(tmp_path)


def test_a_run_that_is_all_in_the_store_needs_no_torch(planned: Any, composed: Any, tmp_path: Path) -> None:
    assert run_as_data(planned(*CACHED), tmp_path / "first", [])["status"] == "completed"
    code = (
        "import sys\nfrom wavespeed_runner.cli.main import main\nstatus = main(sys.argv[1:])\n"
        "print(status, sorted({'torch', 'diffusers', 'transformers'} & set(sys.modules)))\n"
    )
    given = [o for o in (*TINY, *CACHED) if o not in ("measure=none", "steps=4")]
    done = subprocess.run(
        [sys.executable, "-c", code, *given, f"outputs={tmp_path / 'outputs'}"],
        cwd=REPO, capture_output=True, text=True, timeout=LONG,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr
    assert "Nothing was denoised" in done.stdout


def test_a_run_that_is_killed_in_its_first_image_leaves_a_record(tmp_path: Path) -> None:
    child = started(tmp_path, *command(tmp_path, "measure.repeats=50"))
    until(lambda: records(tmp_path))
    child.kill()
    child.join(LONG)
    (record,) = records(tmp_path)
    assert record["status"] == "interrupted" and not record["samples"]
