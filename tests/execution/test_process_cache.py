"""What a process keeps between runs: models, stored bytes, and GPU memory that it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from tests.execution.toy_stages import SAMPLE, Work
from wavespeed_runner.execution.executor import Executor
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.execution.resources import release


def test_a_model_is_kept_between_runs_and_let_go_on_close(work: Work) -> None:
    executor = Executor(work.store, rerun=False, on_stage=lambda name: None)
    work.run(executor)
    work.store.path(work.keys["image"]).unlink()
    work.run(executor)
    assert work.calls == ["image"] and work.loaded[0]() is not None
    executor.close()
    assert work.loaded[0]() is None


@dataclass
class Device:
    """A stand-in for a GPU that counts how often its memory was freed."""

    emptied: int = 0

    def empty_cache(self) -> None:
        self.emptied += 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Device:
    torch = pytest.importorskip("torch")
    device = Device()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", device.empty_cache)
    return device


def test_a_model_that_is_let_go_on_close_leaves_the_gpu_s_memory_to_others(work: Work, gpu: Device) -> None:
    executor = Executor(work.store, rerun=False, on_stage=lambda name: None)
    work.run(executor)
    assert gpu.emptied == 0
    executor.close()
    assert gpu.emptied == 1 and work.loaded[0]() is None


def test_a_model_that_makes_place_for_another_leaves_it_the_gpu_s_memory(work: Work, gpu: Device) -> None:
    executor = Executor(work.store, rerun=False, on_stage=lambda name: None)
    work.run(executor)
    (key,) = executor.resources
    release(executor.resources, keep={key, "another"})
    assert gpu.emptied == 0 and key in executor.resources, "nothing went"
    release(executor.resources, keep={"another"})
    assert gpu.emptied == 1 and not executor.resources and work.loaded[0]() is None


def test_where_nothing_is_kept_what_a_failed_load_has_left_goes_too(gpu: Device) -> None:
    """A model whose load failed is in no resource list."""
    release({})
    assert gpu.emptied == 1


def test_memory_holds_what_was_written_last() -> None:
    cache = ProcessCache(limit=10)
    cache.remember("a", b"1234")
    cache.remember("a", b"567")
    assert cache.read("a") == b"567"
    cache.remember("b", b"1234567")
    assert (cache.read("a"), cache.read("b")) == (b"567", b"1234567"), "ten bytes, for the old value counts no more"
    cache.remember("b", b"12345678901")
    assert cache.read("b") is None, "too large to be kept, and what was there is out of date"
    cache.remember("c", b"1234567")
    assert (cache.read("a"), cache.read("c")) == (b"567", b"1234567")


@pytest.mark.parametrize("how", [{"rerun": True}, {"denoise_again": True}], ids=["rerun", "in turn"])
def test_what_is_computed_again_is_what_the_next_job_of_a_sweep_gets(work: Work, how: dict[str, bool]) -> None:
    """The store holds new timings; memory must not return the old ones."""
    cache, made = ProcessCache(), iter(range(10))

    def job(rerun: bool = False, **again: bool) -> Any:
        executor = Executor(work.store, rerun=rerun, on_stage=lambda name: None, cache=cache)
        return executor.run(work.graph, [SAMPLE], [work.keys], [], **again)[0]["noise"].data["seconds"]

    work.seconds = lambda: next(made)
    work.run()  # by an earlier process: a rerun computes again what this one has not made
    assert (job(), job()) == (0, 0)
    assert job(**how) == 1
    assert job() == 1
    kept = cache.read(work.keys["noise"])
    assert kept is not None and kept == work.store.read(work.keys["noise"])
