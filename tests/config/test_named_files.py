"""Files that a config names, beside it: in the folder given with `--config-dir`, wherever the command runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from tests.command_line import TINY, CommandLine
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.sweeps.jobs import Job, plan_job_again, plan_jobs

SHARED = """defaults:
  - override /prompts: file
  - override /graph: image_to_image
  - override /model: demo
prompts: {path: texts/list.txt}
image: photo.png
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """An experiment with its prompts and its image beside it; nothing of that is where the command runs."""
    made = CommandLine(tmp_path, monkeypatch, capsys)
    made.experiment(SHARED)
    (made.configs / "texts").mkdir()
    (made.configs / "texts" / "list.txt").write_text("a red circle\n")
    Image.new("RGB", (64, 64)).save(made.configs / "photo.png")
    return made


def jobs(command: CommandLine, *arguments: str) -> list[Job]:
    given = ["--config-dir", str(command.configs), *TINY, "experiment=mine", *arguments]
    return plan_jobs(parse_arguments(given))


def test_they_are_found_and_the_plan_says_where(command: CommandLine) -> None:
    (job,) = jobs(command)
    assert job.plan and job.plan.config.prompts.path == str(command.configs / "texts" / "list.txt")
    assert job.plan.config.image == str(command.configs / "photo.png")
    assert [sample.prompt for sample in job.plan.samples] == ["a red circle"]


def test_those_where_the_command_runs_come_first_and_what_is_typed_is_only_there(command: CommandLine) -> None:
    Path("texts").mkdir()
    Path("texts/list.txt").write_text("a blue square\n")
    (job,) = jobs(command)
    assert job.plan and job.plan.config.prompts.path == "texts/list.txt"
    assert "photo.png: No such file" in command.refuses(*TINY, "experiment=mine", "image=./photo.png")


def test_every_job_of_a_sweep_finds_them_also_in_another_process(command: CommandLine) -> None:
    for job in jobs(command, "-m", "seed=1,2"):
        assert job.plan and [sample.prompt for sample in job.plan.samples] == ["a red circle"]
        again = plan_job_again(job.number, str(command.configs), job.overrides, job.overrides)
        assert again.plan and again.plan.config.prompts.path == job.plan.config.prompts.path
        assert again.plan.identity == job.plan.identity


def test_a_link_out_of_that_folder_is_not_followed(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "private.png").write_bytes((command.configs / "photo.png").read_bytes())
    (command.configs / "photo.png").unlink()
    (command.configs / "photo.png").symlink_to(tmp_path / "private.png")
    said = command.refuses(*TINY, "experiment=mine")
    assert re.match(r"image=photo\.png: a link leads out of the folder, to .*private\.png", said)


def test_a_linked_experiment_is_refused_with_the_ways_out(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.yaml").write_text("# @package _global_\nsteps: 2\n")
    (command.configs / "experiment" / "linked.yaml").symlink_to(tmp_path / "elsewhere.yaml")
    said = command.refuses(*TINY, "experiment=linked")
    assert "copy the file there, or give the folder that it is in with --config-dir" in said
