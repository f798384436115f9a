"""Files of a sweep that are damaged, and names that none of them could hold, are refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import RunError
from wavespeed_runner.sweeps.folder import SweepFolder
from wavespeed_runner.sweeps.launchers.slurm.tasks import FILE, Tasks

USUAL: dict[str, Any] = {"schema_version": 1, "name": "x", "tasks": {"0": {"id": "7_0", "before": 3, "identity": "i"}}}
BAD = os.fsdecode(b"o\xff\xfe")


def test_submitted_tasks_are_read(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(USUAL))
    tasks = Tasks(SweepFolder(path=tmp_path))
    assert (tasks.name, tasks.ids, tasks.before, tasks.identities) == ("x", {0: "7_0"}, {0: 3}, {0: "i"})


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '"x"', "3", "{", *(json.dumps({**USUAL, "tasks": tasks}) for tasks in (
        [], 3, None, {"x": USUAL["tasks"]["0"]}, {"0": []}, {"0": {"id": 7, "before": 3}}, {"0": {"id": "7"}},
        {"0": {"id": "7", "before": "x"}},
    )), json.dumps({**USUAL, "name": ["x"]})],
)  # fmt: skip
def test_a_damaged_file_of_tasks_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(RunError, match=r"slurm\.json: cannot be read: .*; scancel its jobs and remove it$"):
        Tasks(SweepFolder(path=tmp_path))


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
@pytest.mark.parametrize(
    "arguments",
    [
        [f"outputs='{BAD}'"],
        ["-m", "steps=1,2", f"outputs='{BAD}'"],
        ["--config-dir", BAD, "dry_run=true"],
        ["calibrate", "--config-dir", BAD],
        ["replay", "{image}", f"outputs={BAD}"],
    ],
)
def test_a_name_that_no_record_could_hold_is_refused(
    tmp_path: Path, finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], arguments: list[str],
) -> None:  # fmt: skip
    """The run would be done, and its record could not be read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / BAD).mkdir()
    image = next((finished[0] / "images").glob("*.png"))
    assert main([word.format(image=image) for word in arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "a name that is not UTF-8, which no record can hold; rename it" in err
    assert err.isprintable() or err.rstrip("\n").isprintable()
    assert os.listdir(tmp_path) == [BAD] and os.listdir(tmp_path / BAD) == []


@pytest.mark.skipif(os.name == "nt", reason="names of files are Unicode there")
def test_no_sweep_begins_in_a_folder_that_it_could_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / BAD).mkdir()
    monkeypatch.chdir(tmp_path / BAD)
    assert main(["-m", "steps=1,2", "device=cpu"]) == 2
    assert "the folder where the command runs, " in (err := capsys.readouterr().err) and "not UTF-8" in err
    assert os.listdir(".") == []
