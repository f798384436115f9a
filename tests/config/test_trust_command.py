"""Hostile and honest experiments through the command line: sweeps, replaced files, and what stays possible."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.execution import runner
from wavespeed_runner.report import console

TOUCH = "{_target_: builtins.open, file: MARKER, mode: w}"
"""What Hydra would instantiate: it leaves a file."""
CALLBACK = f"hydra: {{callbacks: {{x: {TOUCH}}}}}\n"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """What an attack would write."""
    return tmp_path / "marker"


@pytest.fixture
def run_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra's main does everything it does, and then nothing is computed."""
    monkeypatch.setattr(
        runner, "run_plan", lambda plan, folder, overrides: SimpleNamespace(status="completed", error=None)
    )
    monkeypatch.setattr(console, "show", lambda record, folder: None)


@pytest.fixture
def hostile(command: CommandLine, marker: Path) -> CommandLine:
    """With options of a stranger's that would leave the marker."""
    command.config("cache/evil", TOUCH.replace("MARKER", str(marker)))
    command.config("cache/global", "# @package _global_\n" + CALLBACK.replace("MARKER", str(marker)))
    return command


def test_a_callback_does_not_run(hostile: CommandLine, marker: Path) -> None:
    hostile.experiment(CALLBACK.replace("MARKER", str(marker)))
    assert hostile.refuses(*TINY, "experiment=mine").startswith("hydra.callbacks: a config file sets it")
    assert not marker.exists()


def test_the_sweep_itself_is_checked_not_only_its_jobs(hostile: CommandLine, marker: Path) -> None:
    # Hydra takes a sweep's callbacks from a config that none of its jobs has.
    hostile.experiment("defaults: [override /cache: global]\nhydra: {sweeper: {params: {cache: none}}}\n")
    assert "hydra.callbacks" in hostile.refuses("-m", *TINY, "experiment=mine")
    assert not marker.exists()


def test_every_job_of_a_sweep_is_checked(hostile: CommandLine, marker: Path) -> None:
    hostile.experiment("steps: 3\n", "good")
    hostile.experiment(CALLBACK.replace("MARKER", str(marker)), "evil")
    error = hostile.refuses("-m", *TINY, "experiment=good,evil")
    assert "hydra.callbacks" in error and "(job 2 of 2: " in error
    assert not marker.exists()


@pytest.mark.slow
def test_what_is_always_there_cannot_be_replaced(hostile: CommandLine, marker: Path) -> None:
    for shadowed in ("base_config", "schema/cache/none", "hydra/launcher/basic", "hydra/config"):
        hostile.config(shadowed, "defaults: [/cache@_global_: global]\n")
    status, _, err = hostile("--config-dir", str(hostile.configs), "-m", *TINY, "seed=1")
    assert (status, err) == (0, "")
    assert not marker.exists()


def test_an_experiment_may_choose_every_group_and_set_every_value(command: CommandLine) -> None:
    (command.folder / "mine.txt").write_text("a red circle\n", encoding="utf-8")
    command.experiment(
        "defaults: [override /model: demo, override /sampler: unipc, override /cache: fbcache, "
        "override /prompts: file, override /graph: text_to_image, override /measure: full]\n"
        "seed: 3\nsteps: 12\nguidance_scale: 2.0\nnegative_prompt: blur\nwidth: 32\nheight: 32\n"
        "cache: {start: 0.1, end: '${cache.start}', residual_diff_threshold: 0.3}\nprompts: {path: mine.txt}\n"
    )
    said = command("--config-dir", str(command.configs), "dry_run=true", *TINY, "experiment=mine", "cache.end=0.9")
    assert said.status == 0, said.err
    assert "32x32, 12 steps, guidance 2, seed 3, sampler unipc, cache fbcache" in said.out


def test_an_experiment_may_sweep(command: CommandLine) -> None:
    command.experiment("hydra: {sweeper: {params: {steps: '12,13', cache: fbcache}}}\n")
    plan = command.plans("-m", *TINY, "experiment=mine")
    assert "12 steps" in plan and "cache fbcache" in plan and "\n  1  steps=13  " in plan and "\n2 jobs\n" in plan


def test_the_command_line_may_say_where_results_go(command: CommandLine, run_nothing: None) -> None:
    assert command(*TINY, "hydra.run.dir=there", "hydra.job_logging.root.level=DEBUG").status == 0
    assert "there/.hydra/config.yaml" in command.left()


def test_the_command_line_may_name_any_prompt_file(command: CommandLine) -> None:
    (command.configs / "mine.md").write_text("a red circle\n", encoding="utf-8")
    assert "'a red circle'" in command.plans(*TINY, f"prompts.path={command.configs}/mine.md")
