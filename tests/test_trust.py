"""A config from a stranger is data: it cannot run code, say where things are written, or read a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tests.command_line import TINY, CommandLine
from wavespeed_runner import runner
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.report import console
from wavespeed_runner.trust import check_values, is_reserved

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
    monkeypatch.setattr(runner, "run_plan", lambda plan, folder, overrides: {"status": "completed"})
    monkeypatch.setattr(console, "show", lambda record: None)


HYDRAS = {
    "a callback": (CALLBACK, "hydra.callbacks"),
    "an empty callback": ("hydra: {callbacks: {x: null}}\n", "hydra.callbacks"),
    "the folder": ("hydra: {run: {dir: MARKER}}\n", "hydra.run.dir"),
    "the folder of sweeps": ("hydra: {sweep: {dir: MARKER}}\n", "hydra.sweep.dir"),
    "the folder of a job": ("hydra: {sweep: {subdir: ../../x}}\n", "hydra.sweep.subdir"),
    "the folder of overrides": ("hydra: {output_subdir: ../../x}\n", "hydra.output_subdir"),
    "the log": ("hydra: {job_logging: {handlers: {file: {filename: MARKER}}}}\n", "hydra.job_logging.handlers.file"),
    "Hydra's log": ("hydra: {hydra_logging: {handlers: {f: {class: logging.FileHandler}}}}\n", "hydra.hydra_logging"),
    "a logging factory": ("hydra: {job_logging: {filters: {f: {(): os.getcwd}}}}\n", "hydra.job_logging.filters"),
    "the launcher's class": ("hydra: {launcher: {_target_: x.y}}\n", "hydra.launcher._target_"),
    "the sweeper's class": ("hydra: {sweeper: {_target_: x.y}}\n", "hydra.sweeper._target_"),
    "the environment": ("hydra: {job: {env_set: {PATH: /x}}}\n", "hydra.job.env_set"),
    "the environment's copy": ("hydra: {job: {env_copy: [HOME]}}\n", "hydra.job.env_copy"),
    "the folder to be in": ("hydra: {job: {chdir: true}}\n", "hydra.job.chdir"),
    "the mode": ("hydra: {mode: MULTIRUN}\n", "hydra.mode"),
    "the search path": ("hydra: {searchpath: [file:///tmp]}\n", "hydra.searchpath"),
    "nothing at all": ("hydra: null\n", "cannot be composed"),
    "overrides of jobs": ("hydra: {overrides: {task: [hydra.run.dir=MARKER]}}\n", "hydra.overrides"),
    "overrides of Hydra": ("hydra: {overrides: {hydra: [hydra.run.dir=MARKER]}}\n", "hydra.overrides"),
    "another launcher": ("defaults: [override /hydra/launcher: mine]\n", "hydra.launcher"),
    "a package": ("defaults: [/cache@hydra.callbacks.x: evil]\n", "hydra.callbacks"),
    "an option": ("defaults: [override /cache: global]\n", "hydra.callbacks"),
    "where results go": ("outputs: MARKER\n", "outputs="),
    "whether it runs": ("dry_run: true\n", "dry_run=True"),
    "whether it runs again": ("rerun: true\n", "rerun=True"),
}

VALUES = {
    "a secret": ("prompt: ${oc.env:HOME}\n", "prompt=${oc.env:HOME}"),
    "a secret at depth": ("cache: {start: '${oc.env:HOME}'}\n", "cache.start=${oc.env:HOME}"),
    "a secret in a list": ("graph: {stages: {load: {options: {x: [1, '${oc.env:HOME}']}}}}\n", "load.options.x.1="),
    "a nested secret": ("prompt: ${oc.${negative_prompt}:HOME}\n", "prompt=${oc.${negative_prompt}:HOME}"),
    "a secret in two parts": ('negative_prompt: "$"\nprompt: "${negative_prompt}{oc.env:HOME}"\n', "put together"),
    "a secret among defaults": ("defaults: [optional /x: '${oc.env:HOME}']\n", "may not read the environment"),
    "code": ("graph: {stages: {load: {options: {_target_: os.system}}}}\n", "options._target_: configs hold no code"),
    "code at depth": ("graph: {stages: {load: {options: {_args_: {a: 1}}}}}\n", "_args_.a: configs hold no code"),
    "a file": ("prompts: {path: /etc/hostname}\n", "prompts.path=/etc/hostname"),
    "a file above": ("prompts: {path: ../mine.txt}\n", "prompts.path=../mine.txt"),
    "a file above a package": ("prompts: {path: pkg://wavespeed_runner/../x.txt}\n", "prompts.path=pkg://"),
    "a file put together": ("prompts: {path: '${prompt}.txt'}\n", "prompts.path=${prompt}.txt"),
}

SWEPT = {
    "the folder": ("hydra.run.dir: MARKER", "hydra.sweeper.params.hydra.run.dir"),
    "a new key of Hydra's": ("+hydra.x: 1", "hydra.sweeper.params.+hydra.x"),
    "the launcher": ("hydra/launcher: mine", "hydra.sweeper.params.hydra/launcher"),
    "where results go": ("outputs: MARKER", "hydra.sweeper.params.outputs"),
    "a file": ("prompts.path: /etc/hostname", "hydra.sweeper.params.prompts.path"),
    "a secret": ("prompt: '${oc.env:HOME}'", "hydra.sweeper.params.prompt=${oc.env:HOME}"),
    "two overrides in one": ("seed: 1 hydra.run.dir=MARKER", "not readable as KEY=VALUE"),
    "an option": ("cache: 'none,global'", "hydra.callbacks"),
    "a package": ("+cache@hydra.callbacks.x: evil", "hydra.callbacks"),
}


@pytest.fixture
def hostile(command: CommandLine, marker: Path) -> CommandLine:
    """With options of a stranger's that would leave the marker."""
    command.config("cache/evil", TOUCH.replace("MARKER", str(marker)))
    command.config("cache/global", "# @package _global_\n" + CALLBACK.replace("MARKER", str(marker)))
    command.config("hydra/launcher/mine", TOUCH.replace("MARKER", str(marker)))
    return command


@pytest.mark.parametrize(("text", "words"), (HYDRAS | VALUES).values(), ids=(HYDRAS | VALUES).keys())
def test_an_experiment_may_not_set(hostile: CommandLine, marker: Path, text: str, words: str) -> None:
    hostile.experiment(text.replace("MARKER", str(marker)))
    assert words in hostile.refuses(*TINY, "experiment=mine")
    assert not marker.exists()


@pytest.mark.parametrize(("params", "words"), SWEPT.values(), ids=SWEPT.keys())
def test_an_experiment_may_not_sweep_over(hostile: CommandLine, marker: Path, params: str, words: str) -> None:
    hostile.experiment(f"hydra: {{sweeper: {{params: {{{params.replace('MARKER', str(marker))}}}}}}}\n")
    assert words in hostile.refuses("-m", *TINY, "experiment=mine")
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


@pytest.mark.parametrize("shadowed", ["base_config", "schema/cache/none", "hydra/launcher/basic", "hydra/config"])
def test_what_is_always_there_cannot_be_replaced(
    hostile: CommandLine, marker: Path, shadowed: str, run_nothing: None
) -> None:
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
        "cache: {start: 0.1, end: '${cache.start}', criterion: {threshold: 0.3}}\nprompts: {path: mine.txt}\n"
    )
    said = command("--config-dir", str(command.configs), "dry_run=true", *TINY, "experiment=mine", "cache.end=0.9")
    assert said.status == 0, said.err
    assert "32x32, 12 steps, guidance 2, seed 3, sampler unipc, cache fbcache" in said.out


def test_an_experiment_may_sweep(command: CommandLine) -> None:
    command.experiment("hydra: {sweeper: {params: {steps: '12,13', cache: fbcache}}}\n")
    plan = command.plans("-m", *TINY, "experiment=mine")
    assert plan.count("job: ") == 2 and "13 steps" in plan and "cache fbcache" in plan


def test_the_command_line_may_say_where_results_go(command: CommandLine, run_nothing: None) -> None:
    assert command(*TINY, "hydra.run.dir=there", "hydra.job_logging.root.level=DEBUG").status == 0
    assert "there/.hydra/config.yaml" in command.left()


def test_the_command_line_may_name_any_prompt_file(command: CommandLine) -> None:
    (command.configs / "mine.md").write_text("a red circle\n", encoding="utf-8")
    assert "'a red circle'" in command.plans(*TINY, f"prompts.path={command.configs}/mine.md")


@pytest.mark.parametrize(
    ("override", "reserved"),
    [
        ("hydra.run.dir=x", True),
        ("+hydra.callbacks.x=1", True),
        ("~hydra.run", True),
        ("hydra/launcher=x", True),
        ("hydra/launcher@x=y", True),
        ("outputs=x", True),
        ("++dry_run=true", True),
        ("prompts.path=x", True),
        ("cache=fbcache", False),
        ("outputs_of=x", False),
        ("prompt=hydra.run.dir", False),
    ],
)
def test_reserved_is_what_only_the_command_line_may_set(override: str, reserved: bool) -> None:
    assert is_reserved(override) is reserved


NAMES = st.sampled_from(["steps", "cache", "a_b", "_x", "x_", "target"])
HARMLESS = st.sampled_from(["", "a", "$5", "${steps}", "a ${cache.start} b", "${.x}", "{oc.env:X}", 1, None, True])
HOSTILE = st.one_of(
    st.sampled_from(["${oc.env:X}", "a ${oc.env:X}", "${oc.${x}:X}", "${ x }", "${a${b}}", "${x", r"\${oc.env:X}"]),
    st.dictionaries(st.sampled_from(["_target_", "_args_", "__class__"]), HARMLESS, min_size=1, max_size=1),
)
CONFIGS = st.recursive(HARMLESS, lambda node: st.lists(node, max_size=3) | st.dictionaries(NAMES, node, max_size=3))


@given(CONFIGS)
def test_harmless_values_pass(config: Any) -> None:
    check_values({"config": config})


@given(CONFIGS, HOSTILE, st.lists(NAMES | st.none(), max_size=4))
def test_one_hostile_value_anywhere_is_refused(config: Any, hostile: Any, path: list[str | None]) -> None:
    for name in path:
        hostile = [config, hostile] if name is None else {name: hostile}
    with pytest.raises(ConfigError):
        check_values({"config": config, "more": hostile})


@given(st.text("${}:.a \\", max_size=12), st.text("${}:.a \\", max_size=6))
def test_what_passes_calls_no_resolver(text: str, other: str) -> None:
    called: list[str] = []
    OmegaConf.register_new_resolver("a", lambda *given: called.append("a"), replace=True)
    try:
        check_values({"text": text, "a": other})
        config = OmegaConf.create({"text": text, "a": other})
        OmegaConf.to_container(config, resolve=True)
    except (ConfigError, OmegaConfBaseException):
        pass
    finally:
        OmegaConf.clear_resolver("a")
    assert called == []
