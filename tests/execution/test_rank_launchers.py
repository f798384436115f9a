"""Ranks that torchrun or srun has started: one drives, the others serve it, and all have to be about to do the same."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import nullcontext
from multiprocessing import Pipe
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

from tests.children import CONTEXT, _command
from tests.conftest import TINY
from wavespeed_runner.config.launched import Launched
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution import runner
from wavespeed_runner.execution.ranks import adopted, meeting
from wavespeed_runner.execution.ranks.agreement import describe_plans, find_differences
from wavespeed_runner.execution.ranks.group import RankGroup, Spec
from wavespeed_runner.execution.ranks.meeting import find_address, find_first, open_store
from wavespeed_runner.execution.ranks.peers import Peer

REPO = Path(__file__).resolve().parents[2]
LONG = 100
"""Seconds; far more than any of this takes."""


def _run_as_rank(output: Path, arguments: tuple[str, ...], variables: dict[str, str]) -> None:
    os.environ.update(variables)
    _command(output, arguments, {})


def launch(folder: Path, *given: tuple[str, ...], by: str = "torchrun") -> list[ForkServerProcess]:
    """Starts a rank for each of these command lines, with the environment that a launcher gives it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    world, processes = str(len(given)), []
    for rank, arguments in enumerate(given):
        variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        if by == "torchrun":
            variables |= {"RANK": str(rank), "WORLD_SIZE": world, "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": world}
        else:
            variables |= {"SLURM_PROCID": str(rank), "SLURM_STEP_NUM_TASKS": world, "SLURM_LOCALID": str(rank)}
            variables |= {"SLURM_NODEID": "0", "SLURM_STEP_TASKS_PER_NODE": world}
        command = (*TINY, "parallel=ulysses", "steps=2", f"outputs={folder / 'outputs'}", *arguments)
        by_key = {argument.partition("=")[0]: argument for argument in command}
        processes.append(
            CONTEXT.Process(target=_run_as_rank, args=(folder / f"out{rank}", tuple(by_key.values()), variables))
        )
        processes[-1].start()
    return processes


def statuses(processes: list[ForkServerProcess]) -> list[int | None]:
    for process in processes:
        process.join(LONG)
    return [process.exitcode for process in processes]


def records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(folder.glob("outputs/runs/*/*/record.json"))]


@pytest.mark.parametrize("by", ["torchrun", "srun"])
def test_ranks_of_a_launcher_make_one_run(tmp_path: Path, by: str) -> None:
    assert statuses(launch(tmp_path, (), (), by=by)) == [0, 0], (tmp_path / "out0").read_text()
    (record,) = records(tmp_path)
    assert record["status"] == "completed" and len(record["engaged"]["parallel"]["ranks"]) == 2
    assert "images and record" in (tmp_path / "out0").read_text() and not (tmp_path / "out1").read_text()
    assert list(tmp_path.glob("outputs/runs/*/*/ranks/rank1.log"))

    # All in the store: the others are not needed, and end.
    assert statuses(launch(tmp_path, (), (), by=by)) == [0, 0]


def test_one_rank_prints_the_plan_for_all(tmp_path: Path) -> None:
    assert statuses(launch(tmp_path, ("dry_run=true",), ("dry_run=true",))) == [0, 0]
    assert "denoise" in (tmp_path / "out0").read_text() and not (tmp_path / "out1").read_text()


def test_ranks_that_are_about_to_do_something_else_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    assert statuses(launch(tmp_path, (), ("seed=3",))) == [2, 2]
    (line,) = (tmp_path / "out0").read_text().splitlines()
    host = socket.gethostname()
    assert line.startswith(f"error: rank 1 ({host}): seed=3, and rank 0 has seed=0; start every rank with the same")
    assert not (tmp_path / "out1").read_text() and not (tmp_path / "outputs").exists()


def test_a_rank_is_killed_and_its_launcher_ends_the_others(tmp_path: Path) -> None:
    processes = launch(tmp_path, ("measure.repeats=300",), ("measure.repeats=300",))
    end = time.monotonic() + LONG
    denoising = "it/s"
    while not (tmp_path / "out0").exists() or denoising not in (tmp_path / "out0").read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    one, other = processes
    assert one.pid
    other.kill()
    other.join(LONG)
    os.kill(one.pid, signal.SIGTERM)  # as torchrun does
    assert statuses([one]) == [1]
    (record,) = records(tmp_path)
    assert record["status"] == "failed", "and not interrupted"
    assert record["error"]["message"].startswith("rank 1 (cpu) has ended, or its machine is out of reach")


@pytest.mark.parametrize("lost", [True, False])
def test_the_launcher_s_signal_between_two_calls(
    planned: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """A rank has ended, and rank 0 does not know yet when the signal of torchrun comes; or somebody stops the run."""
    mine, its = Pipe()
    group = RankGroup(Spec(ranks=2, device="cpu", timeout=10), [Peer(rank=1, connection=mine)])
    here = Launched(rank=0, world=2, local_rank=0, local_world=2, by="torchrun")
    present = adopted._Present(store=None, launched=[here], peers=list(group.peers), group=group)
    monkeypatch.setattr(adopted, "_present", [present])
    usual = signal.getsignal(signal.SIGTERM)

    def signalled(*_given: Any, **_options: Any) -> None:
        if lost:
            its.close()
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run_pass", signalled)
    plan = planned()
    try:
        with nullcontext() if lost else pytest.raises(KeyboardInterrupt):
            record = runner.run_plan(plan, tmp_path, [])
            assert record.status == "failed" and record.error
            assert record.error.message.startswith("rank 1 (cpu) has ended, or its machine is out of reach")
    finally:
        its.close()
        group.close()
        signal.signal(signal.SIGTERM, usual)  # which a run that is being given up no longer takes
    assert json.loads((tmp_path / "record.json").read_text())["error"]["type"] == (
        "RunError" if lost else "KeyboardInterrupt"
    )


@pytest.mark.slow
def test_under_torchrun_itself(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "wavespeed_runner", *TINY, "parallel=ulysses", "steps=2", f"outputs={tmp_path / 'outputs'}",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr
    (record,) = records(tmp_path)
    assert record["status"] == "completed" and len(record["engaged"]["parallel"]["ranks"]) == 2
    assert done.stdout.count("images and record") == 1

    wrong = subprocess.run([*command, "parallel.degree=4"], cwd=REPO, capture_output=True, text=True, timeout=LONG)
    assert wrong.returncode
    said = [line for line in wrong.stderr.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and said[0].startswith("error: parallel=ulysses: parallel.degree=4 has 4 ranks, and torchrun")


def test_what_ranks_compare(planned: Any) -> None:
    same, other = planned("steps=3"), planned("steps=4", prompt="a blue square")
    ours, theirs = describe_plans([same]), describe_plans([other])
    assert find_differences(1, "here", ours, ours) == []
    texts = find_differences(2, "there", theirs, ours)
    assert "rank 2 (there): steps=4, and rank 0 has steps=3" in texts
    assert any("prompts and seeds=" in text for text in texts)
    assert find_differences(1, "a", {**ours, "version of torch": "1.0"}, ours)[0].startswith(
        "rank 1 (a): version of to"
    )
    assert any("weights and files of load" in name for name in ours)
    # Where things lie, and how a rank prints, is its own business.
    assert not find_differences(1, "a", describe_plans([planned("steps=3", outputs="/elsewhere")]), ours)
    # Options are named as they are typed.
    compiled = describe_plans([planned("steps=3", "compile=default", "measure.warmup=1")])
    assert "rank 1 (a): compile=default, and rank 0 has compile=none" in find_differences(1, "a", compiled, ours)
    # Of a sweep, the jobs.
    (text,) = find_differences(1, "a", describe_plans([same, other]), describe_plans([same, same]))
    assert text.startswith("rank 1 (a): job 1=")


def test_a_stranger_who_connects_and_is_silent_does_not_keep_the_ranks_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopted, "GREETING_S", 0.1)
    rank_0 = Launched(by="srun", rank=0, world=2, local_rank=0, local_world=1)
    present: Any = None  # only those that have not come are looked up in it
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()[:2]):
        began = time.monotonic()
        told, connection = adopted._receive(server, began + LONG, rank_0, present)
        connection.close()
    assert told == {} and time.monotonic() - began < LONG / 2


def test_rank_0_says_that_others_have_not_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    given = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(meeting, "MEET_S", 0.5)
    with pytest.raises(RunError, match=r"^srun has started 2 ranks, and they did not all come to 127\.0\.0\.1:"):
        open_store(Launched(by="srun", rank=0, world=2, local_rank=0, local_world=2))


def test_where_the_ranks_of_srun_meet() -> None:
    on_two = Launched(by="srun", rank=0, world=4, local_rank=0, local_world=2)
    given = {"SLURM_JOB_ID": "12345", "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "gpu[03-07,12],cpu1"}
    host, port = find_address(on_two, given)
    assert host == "gpu03" and 15_000 <= port < 30_000
    assert find_address(on_two, {**given, "SLURM_JOB_ID": "12346"})[1] != port
    assert find_address(on_two, {**given, "MASTER_ADDR": "a", "MASTER_PORT": "7"}) == ("a", 7)
    here = Launched(by="srun", rank=0, world=2, local_rank=0, local_world=2)
    assert find_address(here, given)[0] == "127.0.0.1"
    for nodes, first in (("a1", "a1"), ("n[1]", "n1"), ("n[01-02]-ib,m", "n01-ib"), ("x,y", "x")):
        assert find_first(nodes) == first
