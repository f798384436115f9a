"""`GROUP=OPTION --help`: keys, what is allowed, meaning and source; what it says is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import HEAVY, CommandLine
from wavespeed_runner.caching.guide import GUIDE, WINDOW_RANGES
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.paths import CONF, PACKAGE

SCREEN = 50
"""Lines; a screen of today."""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_an_option_tells_its_keys_what_is_allowed_what_they_mean_and_whose_it_is(command: CommandLine) -> None:
    said = command("cache=fbcache", "--help")
    lines = said.out.splitlines()
    assert (said.status, said.err, command.left()) == (0, "", [])
    assert len(lines) <= SCREEN and max(map(len, lines)) <= 118
    assert (
        lines[0] == "cache=fbcache" and "Source: ParaAttention, https://github.com/chengzeyi/ParaAttention" in said.out
    )
    where = lines.index("cache.residual_diff_threshold=0.08   (0 or more)")
    assert lines[where + 1].startswith(
        "    Reuse iff mean|r - r_c| / mean|r_c| is below this; r is what the signal shows"
    )
    assert "cache.max_consecutive_cache_hits=-1   (1 or more, or -1)" in lines
    assert "cache.force_last_step=false   (true or false)" in lines
    assert "cache.guidance_branches=separate   (separate, first)" in lines
    assert "Parts: cache/signal=first_block_residual, cache/criterion=relative_change" in said.out


@pytest.mark.parametrize("option", ["wavespeed", "wavespeed_residual", "magcache_flux", "fbcache"])
def test_the_range_of_a_preset_is_its_own_and_the_named_command_shows_it(command: CommandLine, option: str) -> None:
    said = " ".join(command(f"cache={option}", "--help").out.split())
    found = re.search(r"from (\S+) to (\S+): on the demo model, 27 to 14 of 28 .*?runner (thresholds [^)]+)\)", said)
    assert found, said
    replayed = command(*found[3].split(" "))
    assert replayed.status == 0, replayed.err
    levels = [(float(level), count) for level, count in re.findall(r"above (\S+) +(\d+)", replayed.out)]
    ends = [max(pair for pair in levels if pair[0] < 1.01 * float(value))[1] for value in found.groups()[:2]]
    assert ends == ["27", "14"]


def test_a_window_in_a_schedules_preset_counts(command: CommandLine) -> None:
    """`cache=deepcache` has no window: 14 to 6."""
    assert "2 to 5: on the demo model, 20 to 15 of 28 steps" in " ".join(command("cache=partial", "--help").out.split())


def test_a_folder_of_a_model_has_the_help_of_its_option(command: CommandLine) -> None:
    (command.folder / "mine").mkdir()
    (command.folder / "mine" / "model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    said = command("model=./mine", "--help")
    assert (said.status, said.err) == (0, "")
    assert said.out == f"model=./mine is model=flux model.repo=./mine\n\n{command('model=flux', '--help').out}"
    assert "model=owner/name: a model of the hub" in command("model=owner/name", "--help").err


OTHERS = {
    "cache=balanced": "cache.interval=3   (2 or more)",
    "cache/signal=first_block_residual": "cache.signal.blocks=1   (a whole number)",
    "sampler=euler_karras": "sampler.sigmas=karras   (null, uniform, karras, exponential, beta)",
    "sampler=tcd": "sampler.eta=0.3   (at least 0)",
    "model=flux": "model.dtype=bfloat16   (float32, bfloat16, float16)",
    "quant=int8_wo": "quant.components=[denoiser]   (a list)",
    "attention=sage": "It has no keys.",
    "experiment=known_answer": "  max_consecutive_cache_hits: 5",
    "hydra/launcher=slurm": "cpus: null                # cores of one job, on each of its nodes",
}


@pytest.mark.parametrize(("typed", "line"), OTHERS.items(), ids=OTHERS)
def test_options_of_every_kind_have_help(command: CommandLine, typed: str, line: str) -> None:
    assert line in command("--help", typed).out.splitlines()


GROUPS = ("accelerate", "adapters", "cache", "compile", "graph", "measure", "memory", "parallel", "prompts")


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_has_help(command: CommandLine, group: str) -> None:
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml"))
    said = command(*(f"{group}={option}" for option in options), "--help")
    assert said.status == 0, said.err
    assert [line for line in said.out.splitlines() if line in {f"{group}={option}" for option in options}] == [
        f"{group}={option}" for option in options
    ]


def test_an_option_of_the_users_has_help_and_cannot_move_the_cursor(command: CommandLine) -> None:
    command.config("cache/steady", "# Mine \x1b[31m\ndefaults: [fbcache, _self_]\nresidual_diff_threshold: 0.3\n")
    command.config("cache/steady", "# Mine \u202e.\ndefaults: [fbcache, _self_]\nresidual_diff_threshold: 0.3\n")
    said = command("--config-dir", str(command.configs), "cache=steady", "--help")
    assert (
        said.out.startswith("cache=steady\nMine ?.\n") and "cache.residual_diff_threshold=0.3   (0 or more)" in said.out
    )


def test_a_wrong_option_has_none(command: CommandLine) -> None:
    assert "no option 'fbcach' in config group 'cache' (did you mean 'fbcache'?)" in command.refuses(
        "cache=fbcach", "--help"
    )


def test_help_without_an_option_is_the_whole(command: CommandLine) -> None:
    assert "groups and their options" in command("steps=3", "--help").out


STRATEGIES = {"interval": "deepcache", "computed": "planned", "rel_l1_thresh": "teacache", "threshold": "easycache"}


@pytest.mark.parametrize("key", WINDOW_RANGES)
def test_what_is_outside_of_a_range_is_refused(command: CommandLine, key: str) -> None:
    known, strategy = WINDOW_RANGES[key], STRATEGIES.get(key, "fbcache")
    chosen = [f"cache={strategy}", *(["model=demo_unet"] if key == "interval" else [])]
    step = 1 if key not in ("start", "end") and "thresh" not in key else 0.01
    outside = [known.least - step, *([known.most + 0.01] if known.most is not None else [])]
    outside += [known.most] if known.below_most and known.most is not None else []
    for value in (value for value in outside if value not in known.also):
        assert key in command.refuses(*chosen, f"cache.{key}={value}") or "computes every step" in command.refuses(
            *chosen, f"cache.{key}={value}"
        )
    for value in known.also:
        command.plans(*chosen, f"cache.{key}={'null' if value is None else value}")
    inside = {"interval": 2, "end": 1, "tail_blocks": 1, "depth": "null"}.get(key, max(known.least, 0))
    command.plans(*chosen, f"cache.{key}={inside}")


def test_the_docs_show_the_table_and_what_thresholds_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "--strategies"]) == 0
    table = capsys.readouterr().out
    docs = (PACKAGE.parent / "docs" / "caching.md").read_text(encoding="utf-8")
    shown = docs.partition("<!-- strategies -->\n")[2].partition("<!-- /strategies -->")[0]
    assert shown == table, "paste what `python -m wavespeed_runner support --strategies` prints"
    assert [f"| `{name}` |" in table for name in GUIDE] == [True] * len(GUIDE)
    assert main(["thresholds", "cache=fbcache"]) == 0
    first = next(line for line in capsys.readouterr().out.splitlines() if " 27  " in line)
    row = next(line for line in table.splitlines() if line.startswith("| `fbcache`"))
    assert float(row.split(" | ")[4].split(" to ")[0]) == pytest.approx(float(first.split()[1]), rel=0.02)


def test_help_of_an_option_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from wavespeed_runner.cli.main import main; main(['cache=fbcache', '--help']); print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(said.stdout.splitlines()[-1].split())
