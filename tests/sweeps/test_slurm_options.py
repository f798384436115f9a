"""What Slurm is asked for, from the command line and the site's file; what its states mean. No Slurm is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import TINY, CommandLine
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.sweeps.folder import SweepFolder
from wavespeed_runner.sweeps.launchers.slurm import launcher as slurm
from wavespeed_runner.sweeps.launchers.slurm import options as slurm_options
from wavespeed_runner.sweeps.launchers.slurm import queue as slurm_queue
from wavespeed_runner.sweeps.launchers.slurm.options import Options, minutes, options_of
from wavespeed_runner.sweeps.launchers.slurm.queue import ENDED, State, read_job, read_queue, why_lost
from wavespeed_runner.sweeps.launchers.slurm.submit import Refused, _outside_of_any_job, _parameters, _words
from wavespeed_runner.sweeps.launchers.slurm.tasks import Tasks

JOB = (
    "JobId=15 ArrayJobId=12 ArrayTaskId=3 JobName=wavespeed-0 UserId=me(1000) JobState=TIMEOUT Reason=TimeLimit "
    "Dependency=(null) Requeue=1 Restarts=0 ExitCode=0:15 RunTime=00:01:03 DerivedExitCode=0:0"
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.delenv(slurm_options.VARIABLE, raising=False)
    return CommandLine(tmp_path, monkeypatch, capsys)


def shipped() -> dict[str, Any]:
    return dict(yaml.safe_load((CONF / "hydra" / "launcher" / "slurm.yaml").read_text()))


def test_every_option_stands_in_the_shipped_config_which_sets_none_of_them(command: CommandLine) -> None:
    assert shipped().keys() == slurm_options.READERS.keys() == Options.__dataclass_fields__.keys()
    assert options_of(shipped()) == Options()


@pytest.mark.parametrize(
    ("text", "found"),
    [(90, 90), ("90", 90), ("1:30:00", 90), ("0:00:01", 1), ("4:00:00", 240), ("1-00:00:00", 1440), ("2-12", 3600)],
)
def test_time_limits(text: Any, found: int) -> None:
    assert minutes("hydra.launcher.time", text) == found


@pytest.mark.parametrize("text", ["0", "-5", "4:30", "1:60:00", "two hours", "1.5", "1-2-3", "00:00:00", "", "1e3"])
def test_what_is_no_time_limit_is_refused_with_the_ways_to_write_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^hydra\.launcher\.time=.*: not a time limit; minutes \(90\), H:MM:SS"):
        minutes("hydra.launcher.time", text)


@given(st.integers(0, 30), st.integers(0, 99), st.integers(0, 59), st.integers(0, 59))
def test_a_time_limit_is_rounded_up_to_minutes_and_never_below_what_was_asked(d: int, h: int, m: int, s: int) -> None:
    seconds = ((d * 24 + h) * 60 + m) * 60 + s
    if seconds:
        found = minutes("time", f"{d}-{h}:{m:02}:{s:02}")
        assert seconds <= found * 60 < seconds + 60


@given(st.text(max_size=12))
def test_any_text_is_a_time_limit_of_minutes_from_one_or_one_line_of_error(text: str) -> None:
    try:
        assert minutes("time", text) >= 1
    except ConfigError as error:
        assert str(error).startswith("time=")


def test_the_command_line_wins_over_the_site_s_file_key_by_key(command: CommandLine) -> None:
    """And YAML's sixty-based numbers are not taken for minutes: 4:00:00 would be 14400."""
    Path("slurm.local.yaml").write_text(
        "partition: gpu\naccount: '0123'\ntime: 4:00:00\ngpus: a100:2\nqos: null\n"
        "extra: {constraint: a100, mail_type: END, exclusive: true}\n"
    )
    found = options_of(
        shipped() | {"partition": "debug", "cpus": 4, "extra": {"constraint": "h100", "exclusive": False}}
    )
    assert found == Options(
        partition="debug", account="0123", time=240, gpus="a100:2", cpus=4,
        extra={"constraint": "h100", "mail-type": "END", "exclusive": False},
    )  # fmt: skip
    given = _parameters("name", found)
    assert given["additional_parameters"] == {"constraint": "h100", "mail-type": "END"}
    assert (given["partition"], given["gpus_per_node"], given["time"]) == ("debug", "a100:2", 240)


def test_another_file_is_named_by_the_environment(command: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("slurm.local.yaml").write_text("partition: here\n")
    Path("site.yaml").write_text("partition: there\nmemory: 32G\n")
    monkeypatch.setenv("WAVESPEED_SLURM", "site.yaml")
    assert options_of(shipped()) == Options(partition="there", memory="32G")
    monkeypatch.setenv("WAVESPEED_SLURM", "missing.yaml")
    with pytest.raises(ConfigError, match=r"^WAVESPEED_SLURM=missing\.yaml: cannot be read: "):
        options_of(shipped())


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
        ("extra", {"array": "0-3"}, "extra.array: set by the runner"),
        ("extra", {"wrap": "true"}, "extra.wrap: set by the runner"),
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
        options_of(typed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"), [("- gpu\n", "holds no keys"), ("a: {", "cannot be read"), ("\udcff", "cannot be read")]
)
def test_a_file_that_is_none_is_one_line(command: CommandLine, text: str, said: str) -> None:
    Path("slurm.local.yaml").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=rf"^slurm\.local\.yaml: {said}"):
        options_of({})
    Path("slurm.local.yaml").write_text("# nothing yet\n")
    assert options_of({}) == Options()


@pytest.mark.parametrize("line", ["account: mine", "time: 10", "extra: {chdir: /}"])
def test_an_experiment_cannot_set_any_of_it(command: CommandLine, line: str) -> None:
    command.experiment(f"hydra:\n  launcher:\n    {line}\n")
    said = command.refuses("-m", "experiment=mine", "hydra/launcher=slurm", *TINY, "steps=1,2")
    assert said.startswith("hydra.launcher.") and "only the command line may" in said


def test_an_experiment_cannot_choose_it(command: CommandLine) -> None:
    command.experiment("defaults:\n  - override /hydra/launcher: slurm\n")
    said = command.refuses("-m", "experiment=mine", *TINY, "steps=1,2")
    assert said.startswith("hydra.launcher.") and "only the command line may" in said


def test_without_slurm_or_submitit_it_says_what_is_needed(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(command.folder))
    with pytest.raises(ConfigError, match=r"^hydra/launcher=slurm: no sbatch here; .*hydra/launcher=isolated$"):
        slurm.ready()
    for program in slurm.PROGRAMS:
        (command.folder / program).write_text("#!/bin/sh\n")
        (command.folder / program).chmod(0o755)
    slurm.ready()
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs submitit: pip install 'wavespeed-runner\[slurm\]'$"):
        slurm.ready()


def test_slurm_s_words_are_read() -> None:
    lines = (
        "12_0|RUNNING|None",
        "12_1|PENDING|launch failed requeued held",
        " 13|COMPLETED|None",
        "12_2|PREEMPTED|None",
    )
    found = read_queue("\n".join([*lines, "rubbish", ""]))
    assert found == {
        "12_0": State(name="RUNNING"),
        "12_1": State(name="PENDING", reason="launch failed requeued held"),
        "13": State(name="COMPLETED"),
        "12_2": State(name="PREEMPTED"),
    }
    assert [found[job].alive for job in ("12_0", "12_1", "13", "12_2")] == [True, True, False, False]
    assert read_job(JOB) == State(name="TIMEOUT", reason="TimeLimit", exit="0:15")
    assert read_job("slurm_load_jobs error: Invalid job id specified") is None


@given(st.text())
def test_reading_never_fails(said: str) -> None:
    read_queue(said)
    read_job(said)


@pytest.mark.parametrize("name", sorted(ENDED))
def test_every_state_becomes_a_reason_of_one_line_with_a_way_out(name: str) -> None:
    said = why_lost("12_3", State(name=name, exit="0:9"), minutes=90, memory=None, log="slurm/12_3_0_log.err")
    assert said.startswith(f"Slurm job 12_3: {name} (exit 0:9); ") and "\n" not in said
    assert any(way in said for way in ("hydra.launcher.", "same command", "slurm/12_3_0_log.err"))


def test_reasons_name_what_was_given() -> None:
    shared: dict[str, Any] = {"minutes": 90, "memory": "8G", "log": "the.err"}
    assert "it had 90 minutes; raise hydra.launcher.time" in why_lost("1", read_job(JOB), **shared)
    assert "it had memory=8G; raise hydra.launcher.memory" in why_lost("1", State(name="OUT_OF_MEMORY"), **shared)
    assert why_lost("1", None, **shared) == "Slurm job 1 is no longer in the queue; see the.err"


@pytest.mark.parametrize(
    ("reason", "stuck"),
    [
        ("Resources", False), ("Priority", False), ("BeginTime", False), ("JobArrayTaskLimit", False),
        ("QOSMaxJobsPerUserLimit", False), ("JobHeldUser", True), ("launch failed requeued held", True),
        ("DependencyNeverSatisfied", True), ("BadConstraints", True), ("PartitionTimeLimit", True),
        ("InvalidAccount", True), ("PartitionConfig", True),
    ],
)  # fmt: skip
def test_reasons_for_which_a_job_waits_for_ever(reason: str, stuck: bool) -> None:
    assert bool(slurm_queue.STUCK.search(reason)) is stuck


def test_a_sweep_that_is_run_in_a_job_does_not_hand_that_job_s_environment_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "mine"}
    for key, value in {**kept, "SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "1", "SRUN_CPUS_PER_TASK": "1"}.items():
        monkeypatch.setenv(key, value)
    before = dict(os.environ)
    with _outside_of_any_job():
        assert {key: os.environ[key] for key in kept} == kept
        assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SRUN_CPUS_PER_TASK"} & os.environ.keys()
    assert dict(os.environ) == before


@pytest.mark.parametrize("said", ["Invalid account or account/partition combination specified", "invalid partition"])
def test_what_slurm_refuses_for_good_is_not_waited_for(said: str) -> None:
    with pytest.raises(RunError, match=said):
        slurm._give_up(Refused(said), 0.0)


@pytest.mark.parametrize(
    "said",
    [
        "QOSMaxSubmitJobPerUserLimit: Batch job submission failed: Job violates accounting/QOS policy",
        "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or ...)",
        "Batch job submission failed: Resource temporarily unavailable",
        "Unable to contact slurm controller (connect failure)",
        "Batch job submission failed: Socket timed out on send/recv operation",
    ],
)
def test_what_slurm_refuses_for_now_is_waited_for_some_minutes(said: str) -> None:
    slurm._give_up(Refused(said), 0.0)
    slurm._give_up(Refused(said), slurm.IDLE_S)
    with pytest.raises(RunError, match="Slurm refuses the jobs"):
        slurm._give_up(Refused(said), slurm.IDLE_S + 1)


def test_sbatch_s_own_words_are_told_in_one_line() -> None:
    said = "Traceback\nsbatch: error: QOSMaxSubmit\nsbatch: error: Batch job submission failed: no\nsubprocess ended\n"
    assert _words(said) == "QOSMaxSubmit: Batch job submission failed: no"
    assert _words("something\nelse\n") == "else" and _words("") == "sbatch failed"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """`program(name, script)`: a command of Slurm's that does as told."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(name: str, script: str) -> None:
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)

    return add


def attach(tmp_path: Path) -> list[Any]:
    sweep = SweepFolder(path=tmp_path)
    return slurm._attach(sweep, [], Tasks(sweep), Options(poll=0.1))


def test_jobs_of_an_earlier_command_are_cancelled(tmp_path: Path, program: Callable[[str, str], None]) -> None:
    program("squeue", "echo '7_0|RUNNING|None'; echo '7_1|PENDING|None'; echo '6|COMPLETED|None'")
    program("scancel", f'echo "$@" > {tmp_path}/cancelled')
    assert attach(tmp_path) == []
    assert (tmp_path / "cancelled").read_text() == "7_0 7_1\n"


def test_jobs_that_cannot_be_cancelled_stop_the_command(tmp_path: Path, program: Callable[[str, str], None]) -> None:
    """Two processes would work on the same jobs."""
    program("squeue", "echo '7_0|RUNNING|None'; echo '7_1|PENDING|None'")
    program("scancel", "echo 'scancel: error: Access denied' >&2; exit 1")
    with pytest.raises(RunError, match=r"scancel fails \(scancel: error: Access denied\).*: scancel 7_0 7_1$"):
        attach(tmp_path)


def test_jobs_that_end_before_they_are_cancelled_are_no_failure(
    tmp_path: Path, program: Callable[[str, str], None]
) -> None:
    program("squeue", f"test -e {tmp_path}/ended || echo '7|RUNNING|None'")
    program("scancel", f"touch {tmp_path}/ended; echo 'scancel: error: Invalid job id specified' >&2; exit 1")
    assert attach(tmp_path) == []
    assert (tmp_path / "ended").exists()


def test_a_scancel_that_does_not_answer_is_not_waited_for_without_end(
    tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    program("squeue", "echo '7|RUNNING|None'")
    program("scancel", "exec sleep 20")
    monkeypatch.setattr(slurm_queue, "ANSWER_S", 0.5)
    began = time.monotonic()
    with pytest.raises(RunError, match=r"scancel fails \(no answer within 0.5 s\)"):
        attach(tmp_path)
    assert time.monotonic() - began < 10


def test_scancel_is_looked_for_before_anything_is_submitted(
    tmp_path: Path, program: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sbatch", "squeue", "scontrol", "srun"):
        program(name, "")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(ConfigError, match=r"^hydra/launcher=slurm: no scancel here; "):
        slurm.ready()
