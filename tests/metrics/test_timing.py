"""The step clock, summaries of repeated timings, and peak memory."""

from __future__ import annotations

import sys
import time
from mmap import mmap
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from wavespeed_runner.metrics import timing


def test_the_clock_measures_each_step_in_seconds() -> None:
    clock = timing.StepClock("cpu")
    assert clock.seconds() == []
    clock.start()
    for pause in (0.02, 0.06):
        time.sleep(pause)
        clock.tick()
    first, second = clock.seconds()
    assert 0.02 <= first < 5 and 0.06 <= second < 5  # wide limits, because the machine runs other things too
    clock.start()
    assert clock.seconds() == []


def test_tick_before_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="start"):
        timing.StepClock("cpu").tick()


def test_on_cuda_the_clock_records_events_and_waits_only_when_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log: list[Any] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            self.time = 10.0 * len(log)
            log.append(stream)

        def synchronize(self) -> None:
            log.append("wait")

        def elapsed_time(self, end: Event) -> float:
            assert "wait" in log
            return end.time - self.time

    cuda = SimpleNamespace(Event=Event, current_stream=lambda device: f"stream of {device}")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    clock = timing.StepClock("cuda:1")
    clock.start()
    clock.tick()
    clock.tick()
    assert log == ["stream of cuda:1"] * 3
    assert clock.seconds() == [0.01, 0.01]
    assert log[3:] == ["wait"]


@pytest.mark.gpu
def test_cuda_times_are_those_of_the_device() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    matrix = torch.randn(4096, 4096, device="cuda")
    matrix @ matrix
    torch.cuda.synchronize()
    clock = timing.StepClock("cuda")
    began = time.perf_counter()
    clock.start()
    for _ in range(3):
        for _ in range(20):
            matrix @ matrix
        clock.tick()
    seconds = clock.seconds()
    assert len(seconds) == 3 and sum(seconds) <= time.perf_counter() - began
    assert sum(seconds) == pytest.approx(time.perf_counter() - began, rel=0.3)
    timing.reset_peak_memory("cuda")
    assert timing.peak_memory_bytes("cuda") >= matrix.numel() * 4


def test_summary_agrees_with_numpy() -> None:
    values = np.random.default_rng(0).gamma(3, 1, 21).tolist()
    summary = timing.summarize_timings(values)
    assert summary["raw"] == values
    assert summary["median"] == pytest.approx(np.median(values))
    assert summary["p90"] == pytest.approx(np.quantile(values, 0.9))
    assert summary["mad"] == pytest.approx(np.median(np.abs(values - np.median(values))))


def test_summary_of_one_value_and_of_no_value() -> None:
    assert timing.summarize_timings([0.5]) == {"raw": [0.5], "median": 0.5, "p90": 0.5, "mad": 0}
    assert timing.summarize_timings([]) == {"raw": [], "median": None, "p90": None, "mad": None}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not report it")
def test_peak_memory_includes_memory_that_was_freed() -> None:
    timing.reset_peak_memory("cpu")
    before = timing.peak_memory_bytes("cpu")
    with mmap(-1, 64 * 2**20) as block:  # not from malloc, which may have so much left of what others have freed
        np.frombuffer(block, np.uint8)[:] = 1
    after = timing.peak_memory_bytes("cpu")
    assert before is not None and after is not None
    assert 50 * 2**20 < after - before < 200 * 2**20


@pytest.mark.parametrize(("platform", "unit"), [("linux", 1024), ("darwin", 1)])
def test_peak_memory_without_proc(monkeypatch: pytest.MonkeyPatch, platform: str, unit: int) -> None:
    resource = pytest.importorskip("resource")
    monkeypatch.setattr(timing, "Path", lambda _: SimpleNamespace(read_text=lambda: "Name: x\n"))
    monkeypatch.setattr(sys, "platform", platform)
    assert timing.peak_memory_bytes("cpu") == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
