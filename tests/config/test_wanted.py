"""`???` in a config file means that the value must be given: it is, or the config is refused by the key's name."""

from __future__ import annotations

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.config import fast

WANTED = {
    "prompt": "prompt: ???",
    "seed": "seed: ???",
    "image": "image: ???",
    "steps": "steps: ???",
    "width": "width: ???",
    "model.repo": "model: {repo: '???'}",
    "model": "model: ???",
    "graph.stages.denoise": "graph: {stages: {denoise: '???'}}",
    "graph.stages.denoise.stage": "graph: {stages: {denoise: {stage: '???'}}}",
    "cache.residual_diff_threshold": "defaults: [{override /cache: fbcache}]\ncache: {residual_diff_threshold: '???'}",
    "measure.repeats": "measure: {repeats: '???'}",
}


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("key", WANTED)
def test_what_an_experiment_wants_is_refused_by_name(cli: CommandLine, key: str) -> None:
    cli.experiment(f"{WANTED[key]}\n")
    assert cli.refuses("experiment=mine") == f"{key}=???: experiment=mine wants it to be given; {key}=VALUE"


@pytest.mark.parametrize("fast_too", ["1", "0"])
def test_so_is_what_a_list_wants(cli: CommandLine, monkeypatch: pytest.MonkeyPatch, fast_too: str) -> None:
    monkeypatch.setenv(fast.SWITCH, fast_too)
    cli.experiment("defaults: [{override /compile: default}]\ncompile: {target: [denoiser, '???']}\n")
    said = "compile.target[1]: a value is needed; give compile.target=[VALUE, ...]"
    assert cli.refuses("experiment=mine") == said


def test_so_does_hydra_alone(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fast.SWITCH, "0")
    cli.experiment("seed: ???\n")
    assert cli.refuses("experiment=mine") == "seed=???: experiment=mine wants it to be given; seed=VALUE"
    cli.plans("experiment=mine", "seed=5")


@pytest.mark.parametrize("given", ["seed=5", "++seed=5"])
def test_it_can_be_given(cli: CommandLine, given: str) -> None:
    cli.experiment("seed: ???\n")
    assert "seed" in cli.plans("experiment=mine", given)


def test_the_choice_of_an_option_gives_none_of_its_keys(cli: CommandLine) -> None:
    cli.experiment("cache: {end: '???'}\n")
    wants = "cache.end=???: experiment=mine wants it to be given; cache.end=VALUE"
    assert cli.refuses("experiment=mine", "cache=fbcache") == wants
    cli.plans("experiment=mine", "cache=fbcache", "cache.end=0.9")


def test_a_later_file_gives_it(cli: CommandLine) -> None:
    cli.experiment("steps: ???\nseed: 3\n", "base")
    cli.experiment("defaults: [base, _self_]\nsteps: 7\n")
    cli.plans("experiment=mine")
    cli.experiment("defaults: [_self_, base]\nsteps: 7\n")
    assert cli.refuses("experiment=mine") == "steps=???: experiment=base wants it to be given; steps=VALUE"


def test_a_sweep_gives_it(cli: CommandLine) -> None:
    cli.experiment("seed: ???\n")
    cli.plans("-m", "experiment=mine", "seed=1,2")
    cli.experiment("seed: ???\nhydra: {sweeper: {params: {seed: '1,2'}}}\n")
    cli.plans("-m", "experiment=mine")


@pytest.mark.parametrize(
    ("group", "option", "text"),
    [
        ("measure", "mine", "defaults: [full]\nrepeats: ???\n"),
        ("cache", "mine", "defaults: [fbcache]\nresidual_diff_threshold: ???\n"),
    ],
)
def test_what_plans_nothing_needs_no_value(cli: CommandLine, group: str, option: str, text: str) -> None:
    cli.config(f"{group}/{option}", text)
    said = cli("--config-dir", str(cli.configs), f"{group}={option}", "--help")
    assert (said.status, said.err) == (0, "") and said.out.startswith(f"{group}={option}")


@pytest.mark.parametrize("arguments", [("--cfg", "job"), ("thresholds",)])
def test_what_shows_or_replays_a_run_needs_it(cli: CommandLine, arguments: tuple[str, ...]) -> None:
    cli.config("cache/mine", "defaults: [fbcache]\nresidual_diff_threshold: ???\n")
    command = arguments if arguments[0] == "thresholds" else ()
    rest = () if command else arguments
    said = cli.refuses_command(*command, "--config-dir", str(cli.configs), "cache=mine", *rest)
    key = "cache.residual_diff_threshold"
    assert said == f"{key}=???: cache=mine wants it to be given; {key}=VALUE"


def test_an_option_of_ones_own_wants_its_keys(cli: CommandLine) -> None:
    cli.config("measure/mine", "defaults: [full]\nrepeats: ???\n")
    assert (
        cli.refuses("measure=mine") == "measure.repeats=???: measure=mine wants it to be given; measure.repeats=VALUE"
    )
