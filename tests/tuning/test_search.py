"""`search`: makes the calibration that it needs, writes schedules into it, and `cache=planned` then follows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.caching.calibration.file import load

RUN = ("model=flux", "model.init=tiny", "steps=6", "width=32", "height=32", "device=cpu")
PROMPT = "prompt='a red circle'"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_a_search_calibrates_where_that_is_needed(command: CommandLine) -> None:
    status, out, err = command("search", "computed=3,4", "tries=3", *RUN, PROMPT)
    assert status == 0, err
    assert "no calibration fits this run; making one first\n1 prompts, 6 steps, 1 guidance branches" in err
    assert "3 of 6, try 3: SSIM " in err and "try 4" not in err
    *found, path = out.splitlines()
    calibration = load(Path(path))
    assert [len(calibration.schedules[count]) for count in (3, 4)] == [3, 4]
    assert found[0].startswith("computed=3: SSIM ") and found[0].endswith(f"with steps {calibration.schedules[3]}")

    status, out, err = command("search", "computed=5", "tries=1", *RUN)
    assert status == 0 and "making one" not in err
    assert sorted(load(Path(path)).schedules) == [3, 4, 5], "the schedules of the first search are kept"

    assert (
        "takes the prompts and seeds of the run's calibration" in command("search", "computed=5", *RUN, "prompt=x").err
    )
    assert "seed=3: a search takes the prompts and seeds of" in command("search", "computed=5", *RUN, "seed=3").err
    for typed in ("num_images_per_prompt=2", "seed=0 num_images_per_prompt=2"):  # the calibration's images, and more
        refused = command("search", "computed=5", *RUN, PROMPT, *typed.split())
        assert f"prompt=a red circle {typed}: a search takes" in refused.err.replace("'", "") and refused.status == 2
    steps = ",".join(map(str, calibration.schedules[4]))
    status, out, err = command(*RUN, PROMPT, "measure=none", "cache=planned", "cache.computed=4", "dry_run=true")
    assert status == 0 and f"schedule=[{steps}]: calibration {path}" in out, out

    status, out, _ = command("calibrate", *RUN, PROMPT)
    assert status == 0 and "schedules of earlier searches kept: 3, 4, 5 computed steps" in out
    assert sorted(load(Path(path)).schedules) == [3, 4, 5]


def test_some_of_the_calibrations_images_are_enough_half_of_them_fragile(command: CommandLine) -> None:
    (command.folder / "three.txt").write_text("a red circle\na blue square\na cat\n", encoding="utf-8")
    given = (*RUN, "prompts=file", "prompts.path=three.txt")
    status, out, err = command("search", "computed=3", "tries=2", "images=2", *given)
    assert status == 0 and "1 of 3 candidates are taken for being fragile" in err, err
    assert len(load(Path(out.splitlines()[-1])).schedules[3]) == 3
    refused = command("search", "computed=3", "tries=1", "images=3", *given)
    assert refused.status == 2 and "images=3: fewer than the 3 images of the calibration are needed" in refused.err
    said = command("search", "computed=3", "images=1").err
    assert "images=1: how many of the calibration's images: a whole number from 2 to 99999" in said


def test_every_prompt_is_calibrated_with_seeds_of_its_own_unless_one_is_wanted(command: CommandLine) -> None:
    (command.folder / "two.txt").write_text("a red circle\na blue square\n", encoding="utf-8")
    two = (*RUN, "steps=3", "prompts=file", "prompts.path=two.txt", "seed=7")
    for given, seeds in (((), [7, 8]), (("num_images_per_prompt=2",), [7, 8, 9, 10]), (("seeds=same",), [7, 7])):
        said = command("calibrate", *two, *given)
        assert said.status == 0, said.err
        assert load(Path(said.out.splitlines()[-1])).made["seeds"] == seeds
    (command.folder / "experiment").mkdir()
    (command.folder / "experiment" / "one.yaml").write_text("# @package _global_\nseeds: same\n", encoding="utf-8")
    (command.folder / "experiment" / "mine.yaml").write_text("# @package _global_\ndefaults: [one]\n", encoding="utf-8")
    for experiment in ("one", "mine"):
        said = command("calibrate", *two, f"experiment={experiment}", "--config-dir", str(command.folder))
        assert said.status == 0 and load(Path(said.out.splitlines()[-1])).made["seeds"] == [7, 7], said.err
    assert "seeds" not in command("calibrate", *two[:-3], "prompt=x").err, "of one prompt there is nothing to say"
    refused = command("calibrate", *two, f"seed={2**64 - 1}")
    assert refused.status == 2 and "the largest for so many images" in refused.err
