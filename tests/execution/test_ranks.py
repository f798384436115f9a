"""Ranks of this machine, as real processes: what they compute together, and how each of them may end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.execution.forked_ranks import start_rank
from tests.execution.rank_stages import STEPS, Does, SumOptions, call
from wavespeed_runner.artifacts import Images, Pipeline
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution.ranks import local
from wavespeed_runner.execution.ranks.group import RankGroup, Spec

KILLS = 20
SOON = 20.0
"""Seconds; a failure that is noticed takes a tenth of a second, and the default timeout is 600."""

Started = Callable[..., RankGroup]


def list_shared() -> set[str]:
    """Files in shared memory, without the semaphores that multiprocessing makes: tests beside this one have some."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.mp-")}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_registry: Any) -> Iterator[Started]:
    """`started(ranks=2, timeout=60)`: a group whose ranks know the test's stages. When it is over nothing is left."""
    monkeypatch.setattr(local, "_start_rank", start_rank)
    groups: list[RankGroup] = []

    def start_group(ranks: int = 2, timeout: float = 60.0) -> RankGroup:
        groups.append(local.start(Spec(ranks=ranks, device="cpu", timeout=timeout), tmp_path / "logs"))
        return groups[-1]

    shared = list_shared()
    yield start_group
    for group in groups:
        group.close()
        assert not [peer for peer in group.peers if peer.process and Path(f"/proc/{peer.process.pid}").exists()]
        assert not group.peers.listener.is_alive()
    assert list_shared() <= shared


def check_reason(group: RankGroup, does: Does, **options: Any) -> str:
    """The error of a call in which a rank misbehaves."""
    began = time.monotonic()
    with pytest.raises(RunError) as caught:
        call(group, does=does, **options)
    assert time.monotonic() - began < SOON + group.spec.timeout * (group.spec.timeout < SOON)
    assert group.failed
    return str(caught.value)


def test_all_ranks_call_the_stage_with_the_same_inputs_and_keep_what_they_loaded(started: Started) -> None:
    group = started(ranks=3)
    pipeline, sums = call(group, numbers={"a": (0.5, float("inf"))})
    # 0 + 1 + 2 + 3, and the first call of this pipeline, on each rank; all but rank 0 keep no text encoders
    assert list(sums) == [7 * 3**STEPS, 3**STEPS, 2 * 3 ** (STEPS - 1)]
    assert group.keeps(pipeline)
    _, sums = call(group, pipeline)
    assert list(sums[:2]) == [8 * 3**STEPS, 0]
    assert [rank["rank"] for rank in group.evidence["ranks"]] == [0, 1, 2] and group.evidence["backend"] == "gloo"

    # Another one under the same key: the ranks have dropped the first.
    group.release(keep=set())
    assert not group.keeps(pipeline)
    _, sums = call(group)
    assert list(sums[:2]) == [7 * 3**STEPS, 0]
    processes = [peer.process for peer in group.peers]
    group.close()
    assert [process.returncode for process in processes if process] == [0, 0]  # told to leave, not killed


def test_a_rank_that_is_killed_in_mid_step_fails_the_call_at_once(started: Started) -> None:
    for number in range(KILLS):
        group = started()
        reason = check_reason(group, Does.is_killed, after=number % STEPS)
        assert "rank 1 (cpu) was killed by SIGKILL: by hand, or by the system because memory ran out" in reason
        assert reason.endswith("; its log is " + str(group.peers[0].log))
        group.close()


def test_the_rank_that_failed_first_is_named_with_its_reason(started: Started) -> None:
    group = started(ranks=3)
    assert check_reason(group, Does.fails, rank=2).startswith("rank 2 (cpu): ValueError: a broken layer; its log is ")
    log = group.peers[1].log
    assert log and "in _fail" in log.read_text()  # the traceback
    group.close()
    group = started()
    assert "rank 1 (cpu): MemoryError: Tried to allocate 5.00 GiB" in check_reason(group, Does.runs_out_of_memory)


def test_a_rank_that_exits_without_a_word(started: Started) -> None:
    assert "rank 1 (cpu) ended with status 3: it said nothing" in check_reason(started(), Does.exits)


def test_what_fails_on_rank_0_alone_keeps_its_own_message(started: Started) -> None:
    group = started()
    with pytest.raises(MemoryError, match=r"5.00 GiB"):
        call(group, does=Does.runs_out_of_memory, rank=0)
    assert group.failed


@pytest.mark.parametrize("does", [Does.stops, Does.sleeps])
def test_a_rank_that_hangs_is_given_up_after_the_timeout(started: Started, does: Does) -> None:
    reason = check_reason(started(timeout=3), does)
    assert "rank 1 (cpu) has not answered for parallel.timeout=3 seconds; raise it" in reason


def test_a_rank_that_hangs_before_it_takes_in_a_long_message_is_given_up(started: Started) -> None:
    group = started(timeout=1)
    pipeline, _ = call(group)
    for peer in group.peers:
        assert peer.process
        os.kill(peer.process.pid, signal.SIGSTOP)
    inputs = {"pipeline": pipeline, "images": Images(tensors={"images": np.zeros(2**24)}), "sample": None}
    with pytest.raises(RunError, match=r"rank 1 \(cpu\) has not answered for parallel.timeout=1 seconds"):
        group.call("rank_sum", SumOptions(), [inputs], [None], list)


def test_a_rank_that_hangs_behind_its_last_message_is_given_up_too(started: Started) -> None:
    group = started(timeout=2)
    pipeline = Pipeline(pipe={"calls": 0}, model=None, family=None, device="cpu")
    slow = SumOptions(does=Does.stops)
    with pytest.raises(RunError, match=r"rank 1 \(cpu\) has not answered for parallel.timeout=2 seconds"):
        group.call("rank_load", slow, [{}], ["key"], lambda: [pipeline])


@pytest.mark.parametrize("started_before", [0, 1])
def test_a_rank_that_cannot_be_started_leaves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, started_before: int
) -> None:
    peers, usual = [], start_rank

    def start_some(rank: int, *args: Any) -> Any:
        if rank > started_before:
            raise OSError(11, "Resource temporarily unavailable")
        peers.append(usual(rank, *args))
        return peers[-1]

    monkeypatch.setattr(local, "_start_rank", start_some)
    with pytest.raises(
        RunError, match=rf"^rank {started_before + 1} cannot be started: Resource temp.*use fewer ranks"
    ):
        local.start(Spec(ranks=3, device="cpu", timeout=60.0), tmp_path)
    assert not [peer for peer in peers if Path(f"/proc/{peer.process.pid}").exists()]
