"""The folder of a sweep: which one is used, what is left in it, and what a kill or a full disk does to it."""

from __future__ import annotations

import json
import os
import resource
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.children import started
from tests.sweeps.small_sweep import LONG, folders, records, statuses, sweep
from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import RunError
from wavespeed_runner.process.folder_lock import LOCK
from wavespeed_runner.storage.atomic import write_text
from wavespeed_runner.storage.store import Store
from wavespeed_runner.sweeps import folder, folder_choice, worker


def test_a_typed_folder_is_used_and_what_is_done_in_it_stays(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*sweep(tmp_path), f"hydra.sweep.dir={tmp_path / 'mine'}"]
    assert main(given) == 0
    assert (tmp_path / "mine" / "2" / "record.json").exists() and not folders(tmp_path)
    calls = family()
    assert main(given) == 0 and calls == []
    with folder_choice.open_sweep_folder(tmp_path / "mine", tmp_path, tmp_path, {"identity": ""}, anew=False):
        assert main(given) == 1
    assert "another process runs a sweep there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir=x: folders of jobs are named by their numbers"),
        ("hydra.sweeper.max_batch_size=2", "hydra.sweeper.max_batch_size=2: of no effect"),
        ("hydra/launcher=basic,isolated", "hydra/launcher"),
        ("+hydra.launcher.speed=2", "hydra.launcher.speed"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    for rehearsal in ([], ["dry_run=true"]):
        assert main([*sweep(tmp_path), *rehearsal, option]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_what_hydra_leaves_of_a_job_is_left(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    given = [f"+hydra.callbacks.mine._target_={__name__}.Seen", f"+hydra.callbacks.mine.file={seen}"]
    if "." not in __name__:  # imported by its path: Hydra could not find it
        given = []
    assert main([*sweep(tmp_path, "seed=1,2"), "+hydra.job.env_set.WAVESPEED_TEST=here", *given]) == 0
    (place,) = folders(tmp_path)
    assert (place / "multirun.yaml").exists()
    for number in ("0", "1"):
        hydra = (place / number / ".hydra" / "hydra.yaml").read_text()
        assert f"num: {number}" in hydra and "WAVESPEED_TEST: here" in hydra and str(place) in hydra
        assert f"seed={int(number) + 1}" in (place / number / ".hydra" / "overrides.yaml").read_text()
        assert "width: 32" in (place / number / ".hydra" / "config.yaml").read_text()
        assert (place / number / "run.log").exists()
    assert "WAVESPEED_TEST" not in os.environ
    if given:
        assert seen.read_text().split() == ["multirun", "job", "job", "end"]


class Seen:
    """A callback of Hydra's."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def _add(self, word: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{word} ")

    def on_multirun_start(self, **_: Any) -> None:
        self._add("multirun")

    def on_job_start(self, **_: Any) -> None:
        assert os.environ["WAVESPEED_TEST"] == "here"
        self._add("job")

    def on_job_end(self, **_: Any) -> None:
        pass

    def on_multirun_end(self, **_: Any) -> None:
        self._add("end")


def test_two_sweeps_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    same = sweep(tmp_path, "prompt='a blue square'")
    children = [started(tmp_path, *same, name="one"), started(tmp_path, *same, name="two")]
    children.append(started(tmp_path, *sweep(tmp_path, "prompt='a blue square'", "seed=2,3,4"), name="three"))
    for child in children:
        child.join(LONG)
    assert [child.exitcode for child in children] == [0, 0, 0], [p.read_text() for p in tmp_path.glob("[ot]*")]
    places = folders(tmp_path)
    assert len(places) in (2, 3), "the second goes on in the first's folder only where that had ended"
    pixels: dict[int, set[str]] = {}
    for place in places:
        for number in ("0", "1", "2"):
            record = json.loads((place / number / "record.json").read_text())
            assert record["status"] == "completed"
            pixels.setdefault(record["config"]["seed"], set()).add(record["samples"][0]["pixels_sha256"])
    assert len(pixels) == 4 and all(len(found) == 1 for found in pixels.values())
    assert Store(tmp_path / "outputs" / "store").verify() == 0


def test_a_full_disk_fails_the_jobs_in_one_line_each_and_the_command_goes_on_later(tmp_path: Path) -> None:
    size = {"width=128", "height=128"}
    given = sweep(tmp_path, *size)
    child = started(tmp_path, *given, limits={resource.RLIMIT_FSIZE: 12_000})
    child.join(LONG)
    said = (tmp_path / "out").read_text()
    assert child.exitcode == 1 and "Traceback" not in said and said.count("File too large") >= 3, said
    assert "completed" not in set(statuses(tmp_path).values())
    child = started(tmp_path, *given)
    child.join(LONG)
    assert child.exitcode == 0, (tmp_path / "out").read_text()
    assert len(folders(tmp_path)) == 1 and set(statuses(tmp_path).values()) == {"completed"}
    left = [p for p in folders(tmp_path)[0].rglob(".*") if p.name not in (".lock", ".hydra")]
    assert not left and not list(folders(tmp_path)[0].glob("*/lost.json"))


def test_a_reason_that_the_disk_does_not_take_is_said_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        if path.parent.name.isdigit():
            raise RunError(f"{path}: cannot be written")
        write_text(path, text)

    monkeypatch.setattr(folder, "write_text", full)
    monkeypatch.setattr(worker, "_run_by_hydra", lambda *_: {"message": "no space left"})
    assert main(sweep(tmp_path, "seed=1")) == 1
    said = capsys.readouterr().out
    assert "1/1  job 0  lost: no space left" in said and "\n  job 0: no space left" in said


def test_a_killed_process_leaves_what_the_next_one_takes_away(tmp_path: Path) -> None:
    assert main(sweep(tmp_path)) == 0
    (place,) = folders(tmp_path)
    (place / "1" / "record.json").unlink()
    (place / "1" / "images" / "09_of-an-older-attempt.png").write_bytes(b"half")
    parts = [place / "1" / ".record.json.abc", *(place / f".{name}.abc" for name in folder.WRITTEN)]
    for part in parts:
        part.write_text("{")
    dead = place.parent / "00-00-00-000000"
    dead.mkdir()
    (dead / ".lock").touch()
    (place.parent / "notes").mkdir()
    write_text(place.parent / "notes" / "mine.txt", "kept")
    assert main(sweep(tmp_path)) == 0
    assert [p.name for p in (place / "1" / "images").iterdir()] == [
        Path(records(tmp_path)["1"]["samples"][0]["file"]).name
    ]
    assert not [part for part in parts if part.exists()] and not dead.exists()
    assert (place.parent / "notes" / "mine.txt").exists()


def test_sigterm_is_an_interrupt(tmp_path: Path) -> None:
    child = started(tmp_path, *sweep(tmp_path, "measure.repeats=200"))
    while child.is_alive() and not list(tmp_path.glob("outputs/sweeps/*/*/0/record.json")):
        child.join(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    child.join(LONG)
    assert child.exitcode == 130, (tmp_path / "out").read_text()
    assert statuses(tmp_path) == {"0": "interrupted"}


def test_folders_of_sweeps_that_were_killed_before_they_began_are_removed(tmp_path: Path) -> None:
    sweeps = tmp_path / "sweeps"
    for name, files in {"empty": [], "locked": [LOCK], "another": ["notes.txt"], "whole": [LOCK, folder.SWEEP]}.items():
        (sweeps / "day" / name).mkdir(parents=True)
        for file in files:
            (sweeps / "day" / name / file).write_text("")
    with folder_choice.open_sweep_folder(None, sweeps / "day" / "new", sweeps, {"identity": "a"}, anew=False):
        assert {path.name for path in (sweeps / "day").iterdir()} == {"another", "whole", "new"}
