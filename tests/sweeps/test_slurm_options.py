"""What Slurm is asked for, from the command line and the site's file. No Slurm is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import TINY, CommandLine
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.sweeps.jobs import Job
from wavespeed_runner.sweeps.launchers.slurm import options as slurm_options
from wavespeed_runner.sweeps.launchers.slurm.arrays import take_alike
from wavespeed_runner.sweeps.launchers.slurm.options import Options, parse_minutes, resolve_options
from wavespeed_runner.sweeps.launchers.slurm.submit import (
    build_parameters,
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.delenv(slurm_options.VARIABLE, raising=False)
    return CommandLine(tmp_path, monkeypatch, capsys)


def shipped() -> dict[str, Any]:
    return dict(yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text()))


def test_every_option_stands_in_the_shipped_config_which_sets_none_of_them(command: CommandLine) -> None:
    assert shipped().keys() == slurm_options.PARSERS.keys() == Options.__dataclass_fields__.keys()
    assert resolve_options(shipped()) == Options()


@pytest.mark.parametrize(
    ("text", "found"),
    [(90, 90), ("90", 90), ("1:30:00", 90), ("0:00:01", 1), ("4:00:00", 240), ("1-00:00:00", 1440), ("2-12", 3600)],
)
def test_time_limits(text: Any, found: int) -> None:
    assert parse_minutes("hydra.launcher.time", text) == found


@pytest.mark.parametrize("text", ["0", "-5", "4:30", "1:60:00", "two hours", "1.5", "1-2-3", "00:00:00", "", "1e3"])
def test_what_is_no_time_limit_is_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.time=.*: not a time limit; minutes \(90\), H:MM:SS"):
        parse_minutes("hydra.launcher.time", text)


@given(st.integers(0, 30), st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_time_limit_is_rounded_up_to_minutes_and_never_below_what_was_asked(d: int, h: int, m: int, s: int) -> None:
    seconds = ((d * 24 + h) * 60 + m) * 60 + s
    if seconds:
        found = parse_minutes("time", f"{d}-{h}:{m:02}:{s:02}")
        assert seconds <= found * 60 < seconds + 60


@given(st.text(max_size=12))
def test_any_text_is_a_time_limit_of_minutes_from_one_or_one_line_of_error(text: str) -> None:
    try:
        assert parse_minutes("time", text) >= 1
    except ConfigError as error:
        assert str(error).startswith("time=")


@pytest.mark.parametrize(
    "name", ["export", "expor", "exp", "export-fil", "ui", "uid", "gi", "task_pro", "prolog", "bc"]
)
def test_the_site_s_file_asks_for_no_other_user_or_program_also_by_the_first_letters(
    command: CommandLine, name: str
) -> None:
    """sbatch takes the first letters of an option for it."""
    Path("slurm.local.yaml").write_text(f"extra: {{{name}: x}}\n")
    with pytest.raises(ConfigError, match=rf"extra\.{name.replace('_', '-')}: only on the command line"):
        resolve_options(shipped())
    Path("slurm.local.yaml").unlink()
    assert resolve_options(shipped() | {"extra": {name: "x"}}).extra == {name.replace("_", "-"): "x"}


@pytest.mark.parametrize("name", ["output", "outp", "arr", "wra", "job_nam"])
def test_what_the_runner_sets_is_refused_also_by_the_first_letters(command: CommandLine, name: str) -> None:
    with pytest.raises(ConfigError, match="the runner sets it"):
        resolve_options(shipped() | {"extra": {name: "x"}})


@pytest.mark.parametrize("name", ["exclusive", "exclude", "gres", "gpus", "begin", "signal-x", "get-more"])
def test_other_options_of_the_site_are_its_own(command: CommandLine, name: str) -> None:
    Path("slurm.local.yaml").write_text(f"extra: {{{name}: x}}\n")
    assert resolve_options(shipped()).extra == {name: "x"}


def test_the_command_line_wins_over_the_site_s_file_key_by_key(command: CommandLine) -> None:
    """And YAML's sixty-based numbers are not taken for minutes: 4:00:00 would be 14400."""
    Path("slurm.local.yaml").write_text(
        "partition: gpu\naccount: '0123'\ntime: 4:00:00\ngpus: a100:2\nqos: null\n"
        "extra: {constraint: a100, mail_type: END, exclusive: true}\n"
    )
    found = resolve_options(
        shipped() | {"partition": "debug", "cpus": 4, "extra": {"constraint": "h100", "exclusive": False}}
    )
    assert found == Options(
        partition="debug", account="0123", time=240, gpus="a100:2", cpus=4,
        extra={"constraint": "h100", "mail-type": "END", "exclusive": False},
    )  # fmt: skip
    given = build_parameters("name", found)
    assert given["additional_parameters"] == {"constraint": "h100", "mail-type": "END"}
    assert (given["partition"], given["gpus_per_node"], given["time"]) == ("debug", "a100:2", 240)


def test_a_job_with_ranks_has_a_task_for_each_on_as_many_nodes() -> None:
    given = build_parameters("name", Options(nodes=2, cpus=16, gpus="4"), 8)
    assert (given["nodes"], given["ntasks_per_node"], given["cpus_per_task"], given["gpus_per_node"]) == (2, 4, 4, "4")
    alone = build_parameters("name", Options(nodes=2, cpus=16), 1)
    assert "nodes" not in alone and "ntasks_per_node" not in alone and alone["cpus_per_task"] == 16
    assert build_parameters("name", Options(cpus=1), 2)["cpus_per_task"] == 1
    with pytest.raises(
        ConfigError, match=r"nodes=3: a job of 8 ranks cannot be divided among them; allowed: 1, 2, 4, 8"
    ):
        build_parameters("name", Options(nodes=3), 8)


def test_nodes_that_ranks_cannot_be_divided_among_are_refused_before_anything_is_written(command: CommandLine) -> None:
    said = command.refuses("-m", "hydra/launcher=slurm", "hydra.launcher.nodes=3", "parallel=ulysses,none")
    assert said.startswith("hydra.launcher.nodes=3: a job of 2 ranks cannot")


def test_the_jobs_of_an_array_have_as_many_ranks(planned: Any) -> None:
    plans = [planned(*given) for given in ((), (), ("parallel=ulysses",), ("parallel=ring",), ())]
    jobs = [Job(number=number, overrides=[], plan=plan) for number, plan in enumerate(plans)]
    assert [[job.number for job in take_alike(jobs[first:], 10)] for first in (0, 2, 4)] == [[0, 1], [2, 3], [4]]
    assert len(take_alike(jobs, 1)) == 1


def test_another_file_is_named_by_the_environment(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("slurm.local.yaml").write_text("partition: here\n")
    Path("site.yaml").write_text("partition: there\nmemory: 32G\n")
    monkeypatch.setenv("WAVESPEED_SLURM", "site.yaml")
    assert resolve_options(shipped()) == Options(partition="there", memory="32G")
    monkeypatch.setenv("WAVESPEED_SLURM", "missing.yaml")
    with pytest.raises(ConfigError, match=r"^WAVESPEED_SLURM=missing\.yaml: cannot be read: "):
        resolve_options(shipped())


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("partitoin", "gpu", r"partitoin: no such key \(did you mean 'partition'\?\)"),
        ("partition", "a b", "partition=a b: not a name"),
        ("partition", ["a"], "partition=.*: not a name"),
        ("gpus", "two", r"gpus=two: not a number of GPUs; a number \(1\) or TYPE:NUMBER"),
        ("cpus", 0, "cpus=0: not a whole number from 1"),
        ("cpus", "1.5", "cpus=1.5: not a whole number from 1"),
        ("memory", "32", r"memory=32: not an amount of memory; a whole number and its unit \(32G\)"),
        ("array_parallelism", -1, "array_parallelism=-1: not a whole number from 1"),
        ("poll", 0, "poll=0: not a number of seconds from 0.1"),
        ("extra", "exclusive", "extra=exclusive: not a mapping"),
        ("extra", {"array": "0-3"}, "extra.array: the runner sets it"),
        ("extra", {"wrap": "true"}, "extra.wrap: the runner sets it"),
        ("extra", {"mem": "3G"}, "extra.mem: write hydra.launcher.memory"),
        ("extra", {"gpus_per_node": 1}, "extra.gpus_per_node: write hydra.launcher.gpus"),
        ("extra", {"comment": "a\n#SBATCH --uid=0"}, "extra.comment=a #SBATCH --uid=0: not an option of sbatch"),
        ("extra", {"a b": 1}, "extra.a b=1: not an option of sbatch"),
    ],
)
@pytest.mark.parametrize("where", ["typed", "file"])
def test_a_wrong_option_is_one_line_that_says_where(
    command: CommandLine, key: str, value: Any, said: str, where: str
) -> None:
    if where == "typed":
        head, typed = r"hydra\.launcher\.", shipped() | {key: value}
    else:
        Path("slurm.local.yaml").write_text(yaml.safe_dump({key: value}))
        head, typed = r"slurm\.local\.yaml: ", shipped()
    with pytest.raises(ConfigError, match=f"^{head}{said}") as caught:
        resolve_options(typed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", slurm_options.TYPED_ONLY)
def test_what_runs_programs_or_as_somebody_else_is_only_taken_from_the_command_line(
    command: CommandLine, key: str
) -> None:
    """The site's file is the user's own, but such a line is easily copied from somebody else's."""
    typed = key.replace("-", "_")
    assert resolve_options(shipped() | {"extra": {typed: "x"}}).extra == {key: "x"}
    Path("slurm.local.yaml").write_text(yaml.safe_dump({"extra": {typed: "x", "comment": "fine"}}))
    said = rf"^slurm\.local\.yaml: extra\.{key}: only on the command line, \+hydra\.launcher\.extra\.{typed}=VALUE"
    with pytest.raises(ConfigError, match=said):
        resolve_options(shipped())


@pytest.mark.parametrize(
    ("text", "said"), [("- gpu\n", "holds no keys"), ("a: {", "cannot be read"), ("\udcff", "cannot be read")]
)
def test_a_file_that_is_none_is_one_line(command: CommandLine, text: str, said: str) -> None:
    Path("slurm.local.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=rf"^slurm\.local\.yaml: {said}"):
        resolve_options({})
    Path("slurm.local.yaml").write_text("# nothing yet\n")
    assert resolve_options({}) == Options()


@pytest.mark.parametrize("line", ["account: mine", "time: 10", "extra: {chdir: /}"])
def test_an_experiment_cannot_set_any_of_it(command: CommandLine, line: str) -> None:
    command.experiment(f"hydra:\n  launcher:\n    {line}\n")
    said = command.refuses("-m", "experiment=mine", "hydra/launcher=slurm", *TINY, "steps=1,2")
    assert said.startswith("hydra.launcher.") and "only the command line may" in said


def test_an_experiment_cannot_choose_it(command: CommandLine) -> None:
    command.experiment("defaults:\n  - override /hydra/launcher: slurm\n")
    said = command.refuses("-m", "experiment=mine", *TINY, "steps=1,2")
    assert "mine.yaml: defaults: " in said and "only the command line may choose what Hydra itself does" in said
