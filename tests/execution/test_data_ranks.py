"""`parallel=data`: ranks share the images of a run, and leave what one process leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CACHED, run_as_data
from tests.execution.forked_ranks import start_rank
from wavespeed_runner.execution import executor as executing
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.execution.ranks import local
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.storage.store import Store

Planned = Callable[..., Plan]
IMAGES = ("num_images_per_prompt=5", "batch_size=2")
"""Three batches, the last of them half full."""
DATA = ("parallel=data", "parallel.degree=2")


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_start_rank", start_rank)


@pytest.fixture
def jobs() -> Iterator[ProcessCache]:
    """What jobs of a sweep have in common: their models, and their ranks."""
    cache = ProcessCache()
    yield cache
    cache.clear()


def pixels(record: dict[str, Any]) -> list[str]:
    assert record["status"] == "completed", record["error"]
    return [sample["pixels_sha256"] for sample in record["samples"]]


def ran(record: dict[str, Any], name: str = "denoise") -> list[tuple[int, str, int | None, str]]:
    return [
        (run["sample"], run["of"], run.get("rank"), run["source"]) for run in record["stages"] if run["name"] == name
    ]


def elsewhere(planned: Planned, *overrides: str, **values: Any) -> Plan:
    """A plan with another, empty store."""
    plan = planned(*overrides)
    return planned(*overrides, outputs=plan.config.outputs + "_elsewhere", **values)


def test_ranks_leave_what_one_process_leaves_and_say_who_made_what(planned: Planned, tmp_path: Path) -> None:
    wanted = (*CACHED, *IMAGES, "measure.repeats=2")
    one = run_as_data(planned(*wanted), tmp_path / "one", [])
    several = run_as_data(elsewhere(planned, *wanted, *DATA), tmp_path / "several", [])
    assert pixels(several) == pixels(one) and several["fingerprint"] == one["fingerprint"]
    assert [s["sha256"] for s in several["samples"]] == [s["sha256"] for s in one["samples"]], "metadata too"
    assert [s["quality"] for s in several["samples"]] == [s["quality"] for s in one["samples"]]
    assert [s["engaged"]["denoise"]["cache"] for s in several["samples"]] == [
        s["engaged"]["denoise"]["cache"] for s in one["samples"]
    ]
    assert [(s["rank"], s["source"], s["reference_source"], len(s["raw_seconds"])) for s in several["samples"]] == [
        (rank, "computed", "computed", 2) for rank in (0, 0, 1, 1, 0)
    ]
    ranks = [0, 0, 1, 1, 0]
    assert sorted(ran(several)) == sorted(
        (image, of, ranks[image], "computed") for image in range(5) for of in ("run", "reference")
    )
    assert [rank["rank"] for rank in several["engaged"]["parallel"]["ranks"]] == [0, 1]
    assert len(several["environment"]["devices"]) == 2


def test_times_of_ranks_that_share_a_cpu_are_no_result(planned: Planned, tmp_path: Path) -> None:
    wanted = (*CACHED, "num_images_per_prompt=2")
    record = run_as_data(planned(*wanted, *DATA), tmp_path / "several", [])
    assert [(s["timed_beside"], s["timed_together"]) for s in record["samples"]] == [(2, False)] * 2
    assert record["timing"]["same_run"] is False
    assert any("2 ranks of parallel=data shared the cores" in warning for warning in record["warnings"])
    # Who finds these images in the store finds that too.
    stored = run_as_data(planned(*wanted), tmp_path / "stored", [])
    assert {run["source"] for run in stored["stages"]} == {"store"}
    assert [(s["timed_beside"], s["timed_together"], s.get("rank")) for s in stored["samples"]] == [
        (2, False, None)
    ] * 2
    assert "parallel" not in stored["environment"] and stored["engaged"]["parallel"] is None


def test_what_the_store_has_is_not_made_again_and_starts_no_ranks(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_as_data(planned(*IMAGES), tmp_path / "whole", [])
    plan = planned(*IMAGES, *DATA)
    monkeypatch.setattr(local, "_start_rank", None)
    stored = run_as_data(plan, tmp_path / "stored", [])
    assert pixels(stored) == pixels(whole) and {source for *_, source in ran(stored)} == {"store"}
    for name in ("denoise", "decode"):  # one batch is missing: this process makes it
        plan.store.path(plan.keys[2][name]).unlink()
    mended = run_as_data(plan, tmp_path / "mended", [])
    assert pixels(mended) == pixels(whole)
    assert [image for image, *_, source in ran(mended) if source == "computed"] == [2]


def test_jobs_of_a_sweep_keep_ranks_and_models_and_a_rerun_makes_everything_once(
    planned: Planned, tmp_path: Path, jobs: ProcessCache
) -> None:
    first = run_as_data(planned(*IMAGES, *DATA, "rerun=true"), tmp_path / "0", [], cache=jobs)
    ranks = jobs.ranks
    second = run_as_data(planned(*IMAGES, *DATA, "rerun=true"), tmp_path / "1", [], cache=jobs)
    assert {source for *_, source in ran(second)} == {"store"}, "made by an earlier job of this sweep"
    assert pixels(first) == pixels(second)
    third = run_as_data(planned(*IMAGES, *DATA, "seed=5"), tmp_path / "2", [], cache=jobs)
    assert jobs.ranks is ranks and ran(third, "load") == [], "loaded before"
    together = run_as_data(planned("parallel=ulysses", "parallel.degree=2"), tmp_path / "together", [], cache=jobs)
    assert pixels(together) and jobs.ranks is ranks, "the same ranks, for one image"
    jobs.clear()
    anew = run_as_data(planned(*IMAGES, *DATA, "rerun=true"), tmp_path / "3", [])
    assert pixels(anew) == pixels(first)
    assert [source for *_, source in ran(anew)] == ["computed"] * 5
    assert [s["seconds"] for s in anew["samples"]] != [s["seconds"] for s in first["samples"]]


def test_both_are_timed_again_in_turn_by_the_same_rank(planned: Planned, tmp_path: Path, jobs: ProcessCache) -> None:
    wanted = (*CACHED, "num_images_per_prompt=2", *DATA)
    first = run_as_data(planned(*wanted), tmp_path / "0", [], cache=jobs)
    again = run_as_data(planned(*wanted, "measure.in_turn=true"), tmp_path / "1", [], cache=jobs)
    assert sorted(ran(again)) == [(i, of, i, "computed") for i in range(2) for of in ("reference", "run")]
    for sample, before in zip(again["samples"], first["samples"], strict=True):
        assert sample["raw_seconds"] != before["raw_seconds"]
        assert sample["reference_raw_seconds"] != before["reference_raw_seconds"]


def test_the_noise_floor_is_shared_too(planned: Planned, tmp_path: Path) -> None:
    wanted = (*CACHED, "num_images_per_prompt=2", "measure.noise_floor=repeat")
    one = run_as_data(planned(*wanted), tmp_path / "one", [])
    several = run_as_data(elsewhere(planned, *wanted, *DATA), tmp_path / "several", [])
    assert several["noise_floor"] == one["noise_floor"] and several["noise_floor"]["repeat"]
    assert {(image, rank) for image, of, rank, _ in ran(several) if of == "repeat"} == {(0, 0), (1, 1)}


def test_a_rank_that_dies_fails_the_run_and_the_next_one_goes_on(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = planned("num_images_per_prompt=4", *DATA)
    run = executing.Executor.run

    def kill_rank(self: Any, *args: Any, **kwargs: Any) -> Any:
        if self.rank == 0 and self.kept.ranks and kwargs["first"] == 2:
            os.kill(self.kept.ranks.peers[0].process.pid, signal.SIGKILL)
        return run(self, *args, **kwargs)

    monkeypatch.setattr(executing.Executor, "run", kill_rank)
    record = run_as_data(plan, tmp_path / "killed", [])
    assert record["status"] == "failed"
    assert "rank 1 (cpu) was killed by SIGKILL" in record["error"]["message"]
    monkeypatch.setattr(executing.Executor, "run", run)
    assert len(pixels(run_as_data(plan, tmp_path / "again", []))) == 4
    assert plan.store.verify() == 0


def test_a_rank_with_another_store_is_found(planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned("num_images_per_prompt=2", *DATA)
    absolute = Path.absolute
    monkeypatch.setattr(
        Path, "absolute", lambda p: absolute(p).with_name("other") if p == plan.store.root else absolute(p)
    )
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["status"] == "failed"
    message = record["error"]["message"]
    assert (
        message.startswith("parallel=data: what rank 1 (") and "outputs=DIR with a folder that all machines" in message
    )
    assert Store(plan.store.root.with_name("other")).size()[0] > 0
