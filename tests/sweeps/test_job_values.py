"""The values of a sweep's jobs: ranges as they are written, and those that no stage would read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.config.arguments import parse_arguments
from wavespeed_runner.sweeps.jobs import Job, plan_jobs


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def jobs(*arguments: str) -> list[Job]:
    return plan_jobs(parse_arguments([*TINY, *arguments]))


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        (
            "range(0.1,0.4,0.1)",
            "0.1 0.2 0.3",
        ),  # in binary, 3 x 0.1 is not 0.3, and 4 x 0.1 is below 0.4
        ("range(0.1,0.45,0.1)", "0.1 0.2 0.3 0.4"),
        ("range(0.3,0.05,-0.1)", "0.3 0.2 0.1"),
        ("range(1,3)", "1 2"),
    ],
)
def test_a_range_counts_as_it_is_written(command: CommandLine, typed: str, values: str) -> None:
    found = jobs("-m", f"measure.difference_gain={typed}")
    assert [job.overrides[-1] for job in found] == [f"measure.difference_gain={value}" for value in values.split()]


UNREAD = {
    "strength=0.6": "strength=0.6: no stage of the graph reads it, so it could not take effect; graph=image_to_image",
    "image=pkg://wavespeed_runner/samples/scene.png": "scene.png: no stage of the graph reads it",
    "graph=image_to_image mask=pkg://wavespeed_runner/samples/mask.png": "graph=inpaint, or leave mask out",
}


@pytest.mark.parametrize(("typed", "words"), UNREAD.items(), ids=UNREAD)
def test_a_value_that_nobody_reads_is_refused_where_it_is_the_default_too(
    command: CommandLine, typed: str, words: str
) -> None:
    assert words in command.refuses(*TINY, *typed.split())


def test_so_is_one_of_an_experiment(command: CommandLine) -> None:
    command.experiment("strength: 0.6\n", "strong")
    assert "strength=0.6: no stage" in command.refuses(*TINY, "experiment=strong")


def test_the_default_that_a_stage_reads_may_be_given(command: CommandLine) -> None:
    found = jobs("-m", "graph=text_to_image,image_to_image", "strength=0.6")
    assert [bool(job.plan) for job in found] == [False, True]
    assert jobs("strength=null", "image=pkg://wavespeed_runner/samples/scene.png", "graph=image_to_image")
