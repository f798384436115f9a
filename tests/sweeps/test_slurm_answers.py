"""What the launcher makes of Slurm's answers, and of programs that fail. Scripts stand in for Slurm."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.command_line import CommandLine
from wavespeed_runner.errors import ConfigError, RunError
from wavespeed_runner.sweeps.folder import SweepFolder
from wavespeed_runner.sweeps.launchers.slurm import arrays
from wavespeed_runner.sweeps.launchers.slurm import launcher as slurm
from wavespeed_runner.sweeps.launchers.slurm import queue as slurm_queue
from wavespeed_runner.sweeps.launchers.slurm.options import Options
from wavespeed_runner.sweeps.launchers.slurm.queue import ENDED, State, explain_loss, parse_job, parse_queue
from wavespeed_runner.sweeps.launchers.slurm.submit import (
    Refused,
    hide_own_slurm_job,
    summarize_error,
)
from wavespeed_runner.sweeps.launchers.slurm.tasks import Tasks

JOB = (
    "JobId=15 ArrayJobId=12 ArrayTaskId=3 JobName=wavespeed-0 UserId=me(1000) JobState=TIMEOUT Reason=TimeLimit "
    "Dependency=(null) Requeue=1 Restarts=0 ExitCode=0:15 RunTime=00:01:03 DerivedExitCode=0:0"
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def test_without_slurm_or_submitit_it_says_what_is_needed(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(command.folder))
    with pytest.raises(ConfigError, match=r"^hydra/launcher=slurm: no sbatch here; .*hydra/launcher=isolated$"):
        slurm.check_cluster()
    for program in slurm.PROGRAMS:
        (command.folder / program).write_text("#!/bin/sh\n")
        (command.folder / program).chmod(0o755)
    slurm.check_cluster()
    monkeypatch.setattr(slurm, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs submitit: pip install 'wavespeed-runner\[slurm\]'$"):
        slurm.check_cluster()


def test_slurm_s_words_are_read() -> None:
    lines = (
        "12_0|RUNNING|None",
        "12_1|PENDING|launch failed requeued held",
        " 13|COMPLETED|None",
        "12_2|PREEMPTED|None",
    )
    found = parse_queue("\n".join([*lines, "rubbish", ""]))
    assert found == {
        "12_0": State(name="RUNNING"),
        "12_1": State(name="PENDING", reason="launch failed requeued held"),
        "13": State(name="COMPLETED"),
        "12_2": State(name="PREEMPTED"),
    }
    assert [found[job].alive for job in ("12_0", "12_1", "13", "12_2")] == [True, True, False, False]
    assert parse_job(JOB) == State(name="TIMEOUT", reason="TimeLimit", exit="0:15")
    assert parse_job("slurm_load_jobs error: Invalid job id specified") is None


@given(st.text())
def test_reading_never_fails(said: str) -> None:
    parse_queue(said)
    parse_job(said)


@pytest.mark.parametrize("name", sorted(ENDED))
def test_every_state_becomes_a_reason_of_one_line_with_a_way_out(name: str) -> None:
    said = explain_loss("12_3", State(name=name, exit="0:9"), minutes=90, memory=None, log="slurm/12_3_0_log.err")
    assert said.startswith(f"Slurm job 12_3: {name} (exit 0:9); ") and "\n" not in said
    assert any(way in said for way in ("hydra.launcher.", "same command", "slurm/12_3_0_log.err"))


def test_reasons_name_what_was_given() -> None:
    shared: dict[str, Any] = {"minutes": 90, "memory": "8G", "log": "the.err"}
    assert "its limit was 90 minutes; raise hydra.launcher.time" in explain_loss("1", parse_job(JOB), **shared)
    assert "it had memory=8G; raise hydra.launcher.memory" in explain_loss("1", State(name="OUT_OF_MEMORY"), **shared)
    assert explain_loss("1", None, **shared) == "Slurm job 1 is no longer in the queue; see the.err"


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
    with hide_own_slurm_job():
        assert {key: os.environ[key] for key in kept} == kept
        assert not {"SLURM_JOB_ID", "SLURM_MEM_PER_NODE", "SRUN_CPUS_PER_TASK"} & os.environ.keys()
    assert dict(os.environ) == before


@pytest.mark.parametrize("said", ["Invalid account or account/partition combination specified", "invalid partition"])
def test_what_slurm_refuses_for_good_is_not_waited_for(said: str) -> None:
    with pytest.raises(RunError, match=said):
        arrays.give_up_if_hopeless(Refused(said), 0.0)


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
    arrays.give_up_if_hopeless(Refused(said), 0.0)
    arrays.give_up_if_hopeless(Refused(said), arrays.IDLE_S)
    with pytest.raises(RunError, match="Slurm refuses the jobs"):
        arrays.give_up_if_hopeless(Refused(said), arrays.IDLE_S + 1)


def test_sbatch_s_own_words_are_told_in_one_line() -> None:
    said = "Traceback\nsbatch: error: QOSMaxSubmit\nsbatch: error: Batch job submission failed: no\nsubprocess ended\n"
    assert summarize_error(said) == "QOSMaxSubmit: Batch job submission failed: no"
    assert summarize_error("something\nelse\n") == "else" and summarize_error("") == "sbatch failed"


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
    return slurm.attach(sweep, [], Tasks(sweep), Options(poll=0.1))


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


def test_jobs_that_slurm_is_ending_are_cancelled(tmp_path: Path, program: Callable[[str, str], None]) -> None:
    """scancel fails for the one that had ended; the other one takes some seconds to end."""
    running, ending = "7_0|RUNNING|None\\n7_1|RUNNING|None", "7_0|COMPLETED|None\\n7_1|COMPLETING|None"
    program("squeue", f"test -e {tmp_path}/ended && printf '{ending}\\n' || printf '{running}\\n'")
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
        slurm.check_cluster()
