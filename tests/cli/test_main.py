"""The command line: whatever is wrong is one line that names it, status 2, and nothing is loaded or written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra.errors import HydraException

from tests.command_line import TINY, CommandLine
from wavespeed_runner import __version__, registry
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.sweeps import jobs

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


FLAGS = {
    "--nope": "unrecognized arguments: --nope; see --help",
    "--cfg nope": "invalid choice: 'nope'",
    "--cfg job --package nope": "package 'nope' not found in config",
    "--cfg job -m steps=1,2": "--multirun --cfg: give only one of these",
    "--resolve": "only with --cfg",
    "--shell-completion": "--shell-completion: Expecting one subcommand",
    "--experimental-rerun x": "--experimental-rerun: refused; it loads a pickle",
    "--config-path x": "--config-path: refused; add options with --config-dir instead",
    "--config-name x": "--config-name: refused",
    "--config-dir nope": "--config-dir=nope: no such folder",
    "hydra.searchpath=[file://nope]": "path=nope is not available",
}


@pytest.mark.parametrize(("typed", "words"), FLAGS.items(), ids=FLAGS.keys())
def test_a_wrong_flag_is_one_line(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses(*typed.split(" "))


VALUES = {
    "steps=0": "steps=0: at least 1 is needed; steps=28 is the model's own",
    "cache=fbcache cache.residual_diff_threshold=nan": "cache.criterion.threshold=nan: a finite number is needed",
    "prompt=": "prompt=: it is empty",
    "outputs=": "outputs=: a folder is needed",
}


@pytest.mark.parametrize(("typed", "words"), VALUES.items(), ids=VALUES.keys())
def test_a_value_that_cannot_be_is_one_line(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses(*TINY, *typed.split(" "))


def test_one_wrong_job_stops_the_sweep_before_the_first(command: CommandLine) -> None:
    error = command.refuses("-m", *TINY, "steps=1,x,2")
    assert error.startswith("steps: Value 'x'") and error.endswith("(job 2 of 3: " + " ".join(TINY) + " steps=x)")


@pytest.mark.parametrize("prompt", ["x" * 10_000, "word " * 2_000], ids=["letters", "words"])
def test_a_prompt_that_would_be_cut_is_refused(command: CommandLine, prompt: str) -> None:
    assert "(model.max_sequence_length)" in command.refuses(*TINY, f"prompt={prompt}")


PROMPT_FILES = {
    "missing": (None, "No such file or directory; give a text file with one prompt a line"),
    "empty": (b"\n  \n", "no prompt in it"),
    "not UTF-8": (b"caf\xe9\n", "not UTF-8 text"),
}


@pytest.mark.parametrize(("content", "words"), PROMPT_FILES.values(), ids=PROMPT_FILES.keys())
def test_a_wrong_prompt_file_is_refused(command: CommandLine, content: bytes | None, words: str) -> None:
    if content is not None:
        (command.folder / "mine.txt").write_bytes(content)
    assert f"prompts.path=mine.txt: {words}" in command.refuses(*TINY, "prompts=file", "prompts.path=mine.txt")


def test_a_prompt_file_may_begin_with_a_byte_order_mark(command: CommandLine) -> None:
    (command.configs / "mine.txt").write_bytes(b"\xef\xbb\xbfa red circle\r\n")
    assert "'a red circle'" in command.plans(*TINY, "prompts=file", f"prompts.path={command.configs}/mine.txt")


MODELS = {
    "pickles": ("model.repo=m", {"model.bin": b"x"}, "weights in pickle files are refused"),
    "a broken file": ("model.repo=m/a.safetensors", {"a.safetensors": b"\xff" * 64}, "model.repo=m/a.safetensors: "),
    "no package": ("model.repo=pkg://../x", {}, "package '..' is not installed"),
    "a local revision": ("model.revision=abc", {}, "model.revision=abc: only a hub id has revisions"),
}


@pytest.mark.parametrize(("typed", "files", "words"), MODELS.values(), ids=MODELS.keys())
def test_a_wrong_model_is_refused(command: CommandLine, typed: str, files: dict[str, bytes], words: str) -> None:
    for name, content in files.items():
        (command.folder / "m").mkdir()
        (command.folder / "m" / name).write_bytes(content)
    assert words in command.refuses(typed)


def test_results_cannot_go_where_a_file_is(command: CommandLine) -> None:
    (command.folder / "taken").write_text("")
    assert "outputs=taken/below: taken is a file" in command.refuses(*TINY, "outputs=taken/below")


GRAPHS = {
    "~graph.stages.decode": "graph.output=decode: no such stage",
    "graph.stages.denoise.stage=denoisy": "graph.stages.denoise.stage=denoisy: no",
    "+graph.stages.y={stge: encode}": "graph.stages.y.stge: no such key (did you mean 'stage'?)",
    "graph.stages.denoise.options={steps: 3}": "to add one: +graph.stages.denoise.options=VALUE",
    "+graph.stages.denoise.options={steps: 0}": "graph.stages.denoise.options: steps=0: at least 1 is needed",
}


@pytest.mark.parametrize(("typed", "words"), GRAPHS.items(), ids=GRAPHS.keys())
def test_a_wrong_graph_is_one_line(command: CommandLine, typed: str, words: str) -> None:
    assert words in command.refuses(*TINY, typed)


def test_a_stage_can_be_added_on_the_command_line(command: CommandLine) -> None:
    stage = "+graph.stages.again={stage: decode, inputs: {pipeline: load, latents: denoise}}"
    assert "again (decode)" in command.plans(*TINY, stage, "graph.output=again", "~graph.stages.decode")


def test_the_plan_says_what_a_stage_is_told_otherwise(command: CommandLine) -> None:
    plan = command.plans(*TINY, "+graph.stages.denoise.options={steps: 12}")
    assert "28 steps" in plan and "sample=sample steps=12" in plan


def test_flags_may_stand_between_overrides(command: CommandLine) -> None:
    plan = command.plans(*TINY, "steps=12", "-m", "seed=1,2")
    assert plan.startswith("job: ") and "12 steps, guidance 1, seed 1" in plan and "\n  1  seed=2  " in plan


@pytest.mark.parametrize("sweep", ["experiment=glob([fb*,kn*])", 'prompt="a, b",c'])
def test_a_dry_sweep_lists_every_job(command: CommandLine, sweep: str) -> None:
    key = sweep.partition("=")[0]
    jobs = command.plans("-m", *TINY, sweep).partition("\njobs\n")[2].splitlines()
    assert [line.startswith(f"  {n}  {key}=") for n, line in enumerate(jobs)] == [True, True, False], jobs


def test_options_and_experiments_of_the_users_are_found(command: CommandLine) -> None:
    command.config("cache/mine", "defaults: [fbcache, _self_]\nresidual_diff_threshold: 0.3\n")
    command.experiment("defaults: [override /cache: mine]\nsteps: 12\n")
    plan = command.plans(*TINY, "experiment=mine")
    assert "12 steps" in plan and "cache mine" in plan


def test_a_shipped_option_cannot_be_replaced(command: CommandLine) -> None:
    command.config("cache/none", "defaults: [fbcache, _self_]\n")
    command.config("base_config", "seed: 7\n")
    said = command.refuses(*TINY)
    assert said.startswith("cache=none: the shipped option has this name and is found first, so ")
    assert f"{command.configs / 'cache/none.yaml'} would never be read; give the file another name" in said
    plan = command.plans(*TINY, "cache=fbcache")
    assert "cache fbcache" in plan and "seed 0" in plan


def test_a_folder_may_have_the_shipped_groups_and_copies_of_their_options(command: CommandLine) -> None:
    for option in ("none", "fbcache", "deepcache", "balanced"):
        command.config(f"cache/{option}", (CONF / f"cache/{option}.yaml").read_text(encoding="utf-8"))
    command.config("cache/steady", "defaults: [fbcache, _self_]\nstart: 0.2\n")
    for option in ("fbcache", "steady"):
        assert f"cache {option}" in command.plans(*TINY, f"cache={option}")
    command.config("cache/deepcache", "defaults: [fbcache, _self_]\n")
    assert "cache=deepcache: the shipped option" in command.refuses(*TINY, "model=demo_unet", "cache=balanced")
    assert "cache fbcache" in command.plans(*TINY, "cache=fbcache")


def test_a_base_of_an_option_of_ones_own_cannot_be_replaced(command: CommandLine) -> None:
    command.config("cache/mine", "defaults: [fbcache, _self_]\nstart: 0.3\n")
    assert "cache mine" in command.plans(*TINY, "cache=mine")
    command.config("cache/fbcache", "defaults: [deepcache, _self_]\n")
    said = command.refuses(*TINY, "cache=mine")
    assert "cache=fbcache: the shipped option" in said and f"{command.configs / 'cache/fbcache.yaml'} would" in said
    command.config("experiment/mine", "# @package _global_\ndefaults: [known_answer]\n")
    command.config("experiment/known_answer", "# @package _global_\nsteps: 3\n")
    (command.configs / "cache/fbcache.yaml").unlink()
    assert "experiment=known_answer: the shipped option" in command.refuses(*TINY, "experiment=mine")


def test_a_config_of_the_users_folder_is_not_left_out_in_silence(command: CommandLine) -> None:
    command.config("config", "steps: 3\n")
    said = command.refuses(*TINY)
    assert f"{command.configs / 'config.yaml'}: the shipped config.yaml is found first" in said
    assert f"move it to {command.configs / 'experiment'}, begin it with '# @package _global_'" in said
    command.config("config", (CONF / "config.yaml").read_text(encoding="utf-8"))
    assert "28 steps" in command.plans(*TINY)


def test_of_two_folders_with_an_option_the_second_is_not_left_out_in_silence(command: CommandLine) -> None:
    option = "defaults: [fbcache, _self_]\nstart: {}\n"
    command.config("cache/mine", option.format(0.3))
    command.config("more/cache/mine", option.format(0.3))
    folders = ("cache=mine", f"hydra.searchpath=['file://{command.configs / 'more'}']")
    assert "cache mine" in command.plans(*TINY, *folders)
    command.config("more/cache/mine", option.format(0.5))
    said = command.refuses(*TINY, *folders)
    assert f"cache=mine: another option, {command.configs / 'cache/mine.yaml'}, has this name" in said
    assert f"{command.configs / 'more/cache/mine.yaml'} would never be read" in said


def test_an_option_of_a_plugin_cannot_be_replaced(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(command.folder.parent)
    plugin = command.folder.parent / "some_plugin" / "conf"
    (plugin / "cache").mkdir(parents=True)
    (plugin / "__init__.py").touch()
    (plugin / "cache" / "theirs.yaml").write_text("defaults: [fbcache, _self_]\n", encoding="utf-8")
    monkeypatch.setattr(registry, "load_all", lambda: ("some_plugin",))
    assert "cache theirs" in command.plans(*TINY, "cache=theirs")
    command.config("cache/theirs", "defaults: [deepcache, _self_]\n")
    said = command.refuses(*TINY, "cache=theirs")
    assert f"another option, {plugin / 'cache/theirs.yaml'}, has this name" in said


def test_a_value_on_the_command_line_wins_over_an_experiment(command: CommandLine) -> None:
    assert "14 steps" in command.plans(*TINY, "experiment=known_answer", "steps=14")


def test_help_lists_groups_options_and_values(command: CommandLine) -> None:
    command.config("cache/mine", "defaults: [fbcache]\n")
    status, out, err = command("--help", "--config-dir", str(command.configs))
    assert (status, err) == (0, "")
    assert (
        "fbcache, fitted, lemica, magcache, magcache_flux, max_quality, max_speed, mine, none, " in out
        and "steps: null" in out
        and "--config-dir" in out
    )


def test_version_is_ours(command: CommandLine) -> None:
    assert command("--version") == (0, f"wavespeed_runner {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cfg", "job", "cache=fbcache"), "residual_diff_threshold: 0.08"),
        (("--cfg", "job", "--package", "cache"), "# @package cache\nname: none"),
        (("--info", "searchpath"), "Config search path"),
    ],
)
def test_what_hydra_shows_is_shown(command: CommandLine, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = command(*arguments)
    assert status == 0 and words in out and err == "" and command.left() == []


def test_who_asks_for_it_gets_the_traceback(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(HydraException):
        command("cache=fbcach")


def test_the_environment_is_left_as_it_was(command: CommandLine) -> None:
    command("cache=fbcach")
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_a_fault_of_ours_is_one_line_too(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(args: object, taken: object) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(jobs, "plan_jobs", fault)
    assert command() == (1, "", "error: ZeroDivisionError: of ours; set HYDRA_FULL_ERROR=1 for the traceback\n")


def in_a_process(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    return subprocess.run([sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True)


def test_the_module_is_a_command(tmp_path: Path) -> None:
    done = in_a_process(tmp_path, "-m", "wavespeed_runner", "cache=fbcach")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cache=fbcach: no option 'fbcach' in config group 'cache' (did you mean 'fbcache'?)\n"
    assert list(tmp_path.iterdir()) == []


def test_planning_imports_nothing_heavy(tmp_path: Path) -> None:
    arguments = "-m dry_run=true cache=none,fbcache model.init=tiny"
    code = (
        "import sys; from wavespeed_runner.cli.main import main; status = main(sys.argv[1:])\n"
        "for name in ('torch', 'diffusers', 'transformers', 'skimage'): assert name not in sys.modules, name\n"
        "sys.exit(status)"
    )
    done = in_a_process(tmp_path, "-c", code, *arguments.split(" "))
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
