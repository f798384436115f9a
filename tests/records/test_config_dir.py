"""`sweep.json` is data: the folder of configs that it names is followed only where a config may name files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.records import write_job, write_sweep
from wavespeed_runner.cli.main import main

SECRET = "# @package _global_\nprompt: a private prompt\nsteps: 7\n"
PAGES = ("report.html", "report.md", "results.csv")
NAMED = ["experiment=secret"]


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: tuple[Path, dict[str, Any]]) -> Path:
    """A sweep that somebody sent, in the folder where the command runs; private configs lie beside that folder."""
    for place in (tmp_path / "private", tmp_path / "here" / "own"):
        (place / "experiment").mkdir(parents=True)
        (place / "experiment" / "secret.yaml").write_text(SECRET)
    monkeypatch.chdir(tmp_path / "here")
    folder = tmp_path / "here" / "sent"
    write_sweep(folder, [{"overrides": NAMED}], [])
    write_job(folder / "0", finished[1])
    return folder


def name(sweep: Path, config_dir: Any) -> None:
    about = json.loads((sweep / "sweep.json").read_text())
    (sweep / "sweep.json").write_text(json.dumps({**about, "config_dir": config_dir}))


def shown(sweep: Path) -> str:
    return "".join((sweep / page).read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize(
    "place", ["{home}/private", "../private", "sent/../../private", "linked", "sent/linked", "sent"]
)
def test_a_folder_elsewhere_is_not_followed(
    sweep: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("linked").symlink_to(tmp_path / "private")
    (sweep / "linked").symlink_to(tmp_path / "private")
    (sweep / "experiment").symlink_to(tmp_path / "private" / "experiment")
    name(sweep, place.format(home=tmp_path))
    assert main(["report", str(sweep)]) == 0
    out, err = capsys.readouterr()
    assert "a private prompt" not in shown(sweep) and "config_dir=DIR" in out and "is not followed" in out and err == ""
    assert main(["export", f"{sweep}/0", "out=-"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and "is not followed; give the --config-dir of the run" in err


@pytest.mark.parametrize("place", ["{home}/here/own", "own", "{home}/here/sent/own"])
def test_a_folder_below_is_followed_and_so_is_one_that_is_typed(
    sweep: Path, tmp_path: Path, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (sweep / "own").symlink_to("../own")
    name(sweep, place.format(home=tmp_path))
    assert main(["report", str(sweep)]) == 0 and "a private prompt" in shown(sweep)
    name(sweep, str(tmp_path / "private"))
    assert main(["report", str(sweep), f"config_dir={tmp_path}/private"]) == 0 and "a private prompt" in shown(sweep)
    assert "followed" not in capsys.readouterr().out
    assert main(["report", str(sweep), "config_dir=nowhere"]) == 2
    assert capsys.readouterr().err == "error: config_dir=nowhere: no such folder; give the --config-dir of the run\n"


def test_only_an_experiment_that_is_named_needs_the_folder(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_sweep(sweep, [{"overrides": ["steps=2"]}], [])
    name(sweep, str(tmp_path / "private"))
    assert main(["report", str(sweep)]) == 0 and "followed" not in capsys.readouterr().out


@pytest.mark.parametrize("value", [[1], {"a": 1}, 7, True, "a\0b", "x" * 5000, "nowhere", "~/x"])
def test_a_value_that_names_no_folder_is_one_line(sweep: Path, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    name(sweep, value)
    assert main(["report", str(sweep)]) == 0
    capsys.readouterr()
    assert main(["export", f"{sweep}/0", "out=-"]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "config_dir=" in err and len(err) < 800
