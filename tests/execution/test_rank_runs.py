"""Runs with ranks: kept from job to job, ended with rank 0, and gone on with after one was killed."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tests.children import CONTEXT, started
from tests.conftest import TINY, run_as_data
from tests.execution.forked_ranks import start_rank
from tests.execution.rank_stages import Does, call, install
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.execution.ranks import local
from wavespeed_runner.execution.ranks.group import Spec
from wavespeed_runner.process.interrupts import handle_stop_signals
from wavespeed_runner.stages import generate
from wavespeed_runner.storage.store import Store

LONG = 60
"""Seconds; far more than any of this takes."""


def list_pids(cache: ProcessCache) -> list[int]:
    assert cache.ranks
    return [peer.process.pid for peer in cache.ranks.peers if peer.process]


def is_alive(pid: int) -> bool:
    """False for a zombie, too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], Any]) -> None:
    end = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_jobs_share_their_ranks_and_the_model_on_them(planned: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(local, "_start_rank", start_rank)
    cache = ProcessCache()

    def run(name: str, *overrides: str) -> dict[str, Any]:
        record = run_as_data(planned(*overrides), tmp_path / name, [], cache=cache)
        assert record["status"] == "completed", record["error"]
        return record

    one = run("one", "parallel=ulysses")
    pids = list_pids(cache)
    run("two", "parallel=ulysses", "seed=1")
    assert list_pids(cache) == pids
    assert (tmp_path / "one" / "ranks" / "rank1.log").exists() and (tmp_path / "two" / "ranks" / "rank1.log").exists()
    alone = run("alone", "seed=2")
    assert list_pids(cache) == pids and not cache.ranks.keys, "idle, with nothing loaded"  # type: ignore[union-attr]
    run("slower", "parallel=ulysses", "seed=3", "parallel.timeout=99")
    assert list_pids(cache) != pids and not any(map(is_alive, pids))
    pids = list_pids(cache)
    cache.clear()
    assert cache.ranks is None and not any(map(is_alive, pids))

    ranks = one["engaged"]["parallel"]["ranks"]
    assert [rank["rank"] for rank in ranks] == [0, 1] and one["engaged"]["parallel"]["backend"] == "gloo"
    assert one["environment"]["devices"] == [rank["device_name"] for rank in ranks]
    assert alone["engaged"]["parallel"] is None and "devices" not in alone["environment"]


def test_after_a_rank_was_killed_the_same_run_goes_on_with_new_ones(
    planned: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(local, "_start_rank", start_rank)
    cache, usual, calls = ProcessCache(), generate.denoise, []
    given = ("parallel=ulysses", "num_images_per_prompt=2")

    def kill_then_denoise(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            os.kill(list_pids(cache)[0], signal.SIGKILL)
        return usual(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(generate, "denoise", kill_then_denoise)
        failed = run_as_data(planned(*given, "measure.warmup=0"), tmp_path / "failed", [], cache=cache)
    assert failed["status"] == "failed" and failed["error"]["stage"] == "denoise" and len(failed["samples"]) == 1
    assert failed["error"]["message"].startswith("rank 1 (cpu) was killed by SIGKILL")
    assert cache.ranks is None and not cache.resources
    assert Store(tmp_path / "outputs" / "store").verify() == 0

    record = run_as_data(planned(*given, "measure.warmup=0"), tmp_path / "again", [], cache=cache)
    assert record["status"] == "completed", record["error"]
    assert [sample["source"] for sample in record["samples"]] == ["store", "computed"]
    cache.clear()


def test_a_run_starts_its_ranks_with_nothing_else_typed(tmp_path: Path) -> None:
    child = started(tmp_path, *TINY, "parallel=ulysses", "steps=2", f"outputs={tmp_path / 'outputs'}")
    child.join(LONG * 2)
    assert child.exitcode == 0, (tmp_path / "out").read_text()
    (folder,) = tmp_path.glob("outputs/runs/*/*")
    record = json.loads((folder / "record.json").read_text())
    assert record["status"] == "completed" and len(record["engaged"]["parallel"]["ranks"]) == 2
    own, other = (rank["peak_memory_bytes"] for rank in record["engaged"]["parallel"]["ranks"])
    assert own == record["samples"][0]["peak_memory_bytes"] and 0.5 < other / own < 2
    assert (folder / "ranks" / "rank1.log").exists() and "images and record" in (tmp_path / "out").read_text()

    child = started(tmp_path, *TINY, "parallel=ulysses", "steps=2", f"outputs={tmp_path / 'outputs'}")
    child.join(LONG)
    assert child.exitcode == 0
    assert len(list(tmp_path.glob("outputs/runs/*/*/ranks"))) == 1, "what is all in the store needs no ranks"


def _be_rank_0(path: str, told: Connection) -> None:
    """Waits in mid-step for a rank that has stopped, as long as it may."""
    os.environ["PYTHONPATH"] = path
    signal.signal(signal.SIGINT, signal.default_int_handler)
    group = local.start(Spec(ranks=3, device="cpu", timeout=600.0), None)
    told.send([peer.process.pid for peer in group.peers if peer.process])
    with handle_stop_signals():
        try:
            call(group, does=Does.stops)
        except BaseException as error:
            group.close()
            told.send(type(error).__name__)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_ranks_end_with_rank_0_also_while_all_wait_for_one_that_hangs(tmp_path: Path, number: int) -> None:
    ours, theirs = CONTEXT.Pipe()
    child = CONTEXT.Process(target=_be_rank_0, args=(install(tmp_path), theirs))
    child.start()
    assert ours.poll(LONG)
    pids = ours.recv()
    until(lambda: Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    assert child.pid
    os.kill(child.pid, number)
    until(lambda: not any(map(is_alive, pids)))
    child.join(LONG)
    if number == signal.SIGINT:
        assert ours.poll(LONG) and ours.recv() in ("KeyboardInterrupt", "RunError")
        assert child.exitcode == 0
