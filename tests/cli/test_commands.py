"""One entry point for every command: chosen by the first word, helped alike, misused in one line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import TINY, CommandLine
from wavespeed_runner.cli.arguments import CommandParser
from wavespeed_runner.cli.commands import COMMANDS
from wavespeed_runner.cli.main import main, split_command
from wavespeed_runner.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]
OTHERS = [name for name in COMMANDS if name != "run"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("first", ["cache=fbcache", "-m", "+x=1", "~cache", "--cfg", "++a.b=c", "a/b=c"])
def test_overrides_and_flags_mean_a_run(first: str) -> None:
    assert split_command([first, "report"]) == ("run", [first, "report"])
    assert split_command([]) == ("run", [])


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_its_first_word(name: str) -> None:
    assert split_command([name, "a", "-b"]) == (name, ["a", "-b"])


def test_run_may_be_typed(command: CommandLine) -> None:
    assert command("run", *TINY, "dry_run=true", "steps=3") == command(*TINY, "dry_run=true", "steps=3")


def test_a_wrong_command_gets_the_nearest_one(command: CommandLine) -> None:
    assert command.refuses_command("reprot", "x").startswith("reprot: no such command (did you mean 'report'?)")
    assert "allowed: calibrate, compare, estimate, export, fit, gallery, replay, " in command.refuses_command("xyz")


@pytest.mark.parametrize("name", OTHERS)
def test_every_command_has_help_of_one_style(name: str, command: CommandLine) -> None:
    status, out, err = command(name, "--help")
    assert (status, err) == (0, "") and out.startswith(f"usage: python -m wavespeed_runner {name}")
    assert command(name, "whatever", "-h") == (0, out, "")
    assert max(map(len, out.splitlines())) <= 120 and "\noptions:\n" in out


def test_help_lists_the_commands_in_one_block_and_kindred_groups_together(command: CommandLine) -> None:
    status, out, _ = command("--help")
    assert status == 0 and command("run", "-h").out == out
    blocks = [[line.split()[0] for line in block.splitlines()] for block in out.split("\n\n")]
    assert ["commands", *COMMANDS, "python"] in blocks
    for block in (
        ["model", "graph", "adapters", "prompts"],
        ["quant", "attention", "compile", "accelerate", "memory", "parallel"],
        ["experiment", "hydra/launcher"],
    ):
        assert block in blocks


@pytest.mark.parametrize("name", OTHERS)
def test_an_unknown_flag_is_named(name: str, command: CommandLine) -> None:
    given = {"search": ["computed=5"], "support": [], "store": []}.get(name, ["x"])
    assert command.refuses_command(name, *given, "--wrong").startswith("--wrong: no such flag")


MISUSE = {
    "export x out=": "out=: a value is needed: out=FILE",
    "export x out=a out=b": "out=b: out is given twice; give one out=FILE",
    "export x nme=mine": "nme=mine: no such key (did you mean 'name'?)",
    "replay x.png steps=3": "steps=3: no such key",
    "replay a b": "b: one argument too many",
    "store --verfy": "--verfy: no such flag (did you mean '--verify'?)",
    "support modle=demo": "modle=demo: no such key",
    "support --coming-from wan21": "--coming-from wan21: it prints one page for all models and takes no MODEL",
    "support --strategies flux": "--strategies flux: it prints one page for all models",
    "support --backends --published": "--backends --published: each prints something of its own; give one of them",
    "support --published no": "model=no: no such option",
    "search model=demo": "computed=: needed; computed=6,8,10",
    "search computed=": "computed=: a value is needed",
    "search computed=2": "computed=2: numbers of computed steps, 3 or more each",
    "search computed=6,x": "computed=6,x: numbers of computed steps",
    "search computed=6,": "computed=6,: numbers of computed steps",
    "search computed=6 tries=0": "tries=0: how many schedules are tried: 1 or more",
    "search computed=6 tries=many": "tries=many: how many",
    "search computed=6 tires=3": "tires=3: no such key (did you mean 'tries'?)",
    "search computed=40": "computed=40: fewer than the run's 28 steps are needed",
    "search computed=6 prompt=x": "prompt=x: a search takes the prompts and seeds of the run's calibration, demo (",
    "thresholds cache=fbcach": "cache=fbcach: no option 'fbcach'",
    "calibrate setps=4": "setps: no such key",
}


@pytest.mark.parametrize("typed", MISUSE)
def test_misuse_is_one_line_that_names_it(typed: str, command: CommandLine) -> None:
    assert command.refuses_command(*typed.split(" ")).startswith(MISUSE[typed])


@pytest.mark.parametrize("name", OTHERS)
def test_an_empty_argument_is_not_the_current_folder(name: str, command: CommandLine) -> None:
    assert command.refuses_command(name, "").startswith("'': an argument is empty")


def test_keys_flags_and_overrides_may_stand_in_any_order() -> None:
    parser = CommandParser("x", "", "")
    parser.add_key("out", "FILE", help="where to")
    parser.add_key("tries", "3", help="how many", read=int, default=3)
    parser.add_overrides()
    args = parser.parse(["a=1", "tries=7", "--config-dir", "d", "b=2", "out=x=y"])
    assert (args.overrides, args.tries, args.config_dir, args.out) == (["a=1", "b=2"], 7, "d", "x=y")
    assert parser.parse(["-cd", "d"]).config_dir == "d", "as Hydra has it"
    assert parser.parse([]).tries == 3 and parser.parse([]).out is None
    with pytest.raises(ConfigError, match=r"^tries=x: "):
        parser.parse(["tries=x"])


def test_a_command_imports_no_other_and_help_nothing_heavy() -> None:
    program = (
        "import sys; from wavespeed_runner.cli.main import main; status = main(sys.argv[1:])\n"
        "heavy = {'torch', 'diffusers', 'hydra', 'omegaconf', 'matplotlib', 'numpy'} & sys.modules.keys()\n"
        "rooms = [name for name in sys.modules if name.startswith('wavespeed_runner.cli.')]\n"
        "sys.exit(status or heavy and str(heavy) or len(rooms) > 4 and str(rooms) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    for name in ("report", "search", "replay"):
        run = [sys.executable, "-c", program, name, "--help"]
        done = subprocess.run(run, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


LONG = "a" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        (f"model=./{LONG}",), (f"model.vae=./{LONG}",), (f"model.repo=./{LONG}",), ("--config-dir", LONG),
        (f"accelerate.tiny_vae=./{LONG}",), ("tune", "quality=ssim>=0.9", f"name={LONG}"), ("replay", LONG),
        ("store", LONG), ("support", LONG), ("export", LONG), ("report", LONG), (f"outputs={LONG}",),
        ("calibrate", f"out={LONG}.yaml"), ("search", "computed=6", f"out=x/{LONG}"),
        ("fit", "computed=6", f"out={LONG}"), ("outputs=loop",), ("-m", "seed=1,2", "outputs=loop"),
        ("calibrate", "out=loop/x.yaml"),
    ],
)  # fmt: skip
def test_a_path_that_no_file_can_have_is_a_wrong_value_of_its_key(
    arguments: tuple[str, ...], command: CommandLine
) -> None:
    (command.folder / "loop").symlink_to("loop")
    key = "--config-dir=a" if arguments[0] == "--config-dir" else arguments[-1]
    told = command.refuses_command(*arguments)
    assert told.startswith(key[:30]) and re.search("too long|Too many levels of symbolic links", told)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"model: {{repo: ./{LONG}}}", "model.repo=./"),
        (f"defaults: [{{override /prompts: file}}]\nprompts: {{path: {LONG}.txt}}", "prompts.path="),
        (f"defaults: [{{override /adapters: lora}}]\nadapters: {{path: {LONG}.safetensors}}", "adapters.path="),
        (f"defaults: [{{override /metrics: [clip_score]}}]\nmetrics: {{clip_score: {{folder: {LONG}}}}}",
         "metrics.clip_score.folder="),
        (f"defaults: [{{override /cache: teacache}}]\ncache: {{calibration: {LONG}.yaml}}", "cache.calibration="),
    ],
)  # fmt: skip
def test_such_a_path_in_a_config_file_is_told_by_its_key(text: str, key: str, command: CommandLine) -> None:
    command.experiment(text)
    assert f"{key}aaaa" in command.refuses("experiment=mine", "dry_run=true")


@pytest.mark.parametrize("arguments", [("dry_run=true",), ("report", "."), ("store",)])
def test_a_folder_that_was_removed_is_told_in_one_line(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (gone := tmp_path / "gone").mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(list(arguments)) == 2
    assert capsys.readouterr().err == "error: the folder where the command runs was removed; change to another one\n"
