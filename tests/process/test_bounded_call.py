"""A call in a child process: its result, its errors, its bounds, and that nothing of it is left."""

from __future__ import annotations

import mmap
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from wavespeed_runner.process.bounded_call import BoundedCallError, call_bounded

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is bounded")

MIB = 2**20


def call(function: Any, *args: Any, seconds: float = 20, memory_bytes: int = 512 * MIB) -> Any:
    return call_bounded(function, *args, seconds=seconds, memory_bytes=memory_bytes)


def list_children() -> set[int]:
    return {child.pid for child in psutil.Process().children()}


@pytest.fixture(autouse=True)
def no_child_is_left() -> Any:
    before = list_children()  # other tests of this process may have some that last: torch's compiler, ranks
    yield
    assert list_children() <= before


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("value", [None, 3, "x" * 300_000, ["é", {"a": [1.5]}]])
def test_the_result_is_returned(value: Any) -> None:
    assert call(lambda: value) == value


def test_it_runs_in_a_copy_of_this_process() -> None:
    here: list[int] = []
    there = call(lambda: here.append(1) or [len(here), os.getpid()])
    assert here == [] and there[0] == 1 and there[1] != os.getpid()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("two words"), "two words"),
        (KeyError("x"), "KeyError: 'x'"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError("a\n\x1b[31mb"), "a ?[31mb"),
        (ValueError("x y" * 10_000), ("x y" * 10_000)[:997] + "..."),
    ],
)
def test_an_error_is_one_line(error: BaseException, message: str) -> None:
    with pytest.raises(BoundedCallError) as caught:
        call(fail, error)
    assert str(caught.value) == message


def test_time_is_bounded() -> None:
    start = time.monotonic()
    with pytest.raises(BoundedCallError, match=r"more than 0\.5 seconds"):
        call(lambda: time.sleep(60), seconds=0.1)
    with pytest.raises(BoundedCallError, match=r"more than [15] seconds"):
        # In C, where Python looks at no signal: 1 of its own, or 5 of the clock where others take the processor.
        call(lambda: 3 ** (3**30), seconds=1)
    assert time.monotonic() - start < 20


def test_memory_is_bounded() -> None:
    with pytest.raises(BoundedCallError, match="more than 64 MiB"):
        # From the system: an array could be made of what the tests before have given back to this process alone.
        call(lambda: len(mmap.mmap(-1, 65 * MIB)), memory_bytes=64 * MIB)
    assert call(lambda: len(bytearray(128 * MIB)), memory_bytes=256 * MIB) == 128 * MIB


def test_the_result_is_bounded() -> None:
    with pytest.raises(BoundedCallError, match="its result has more than"):
        call(lambda: "x" * (17 * MIB))


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_crash_is_an_error(number: int) -> None:
    with pytest.raises(BoundedCallError, match=f"ends the process \\(signal {number:d}\\)"):
        call(lambda: os.kill(os.getpid(), number))


def test_the_child_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    call(lambda: os.write(2, b"thread panicked") and print("hello", flush=True))
    assert capfd.readouterr() == ("", "")


def test_where_there_is_no_memory_for_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: fail(OSError(12, "Cannot allocate memory")))
    files = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BoundedCallError, match=r"^no child process can be started for it \(Cannot allocate memory\)$"):
        call(lambda: 1)
    assert len(os.listdir("/proc/self/fd")) == files


def test_an_interrupt_ends_the_child(tmp_path: Path) -> None:
    """Ctrl-C while the parent waits."""
    note = tmp_path / "pid"

    def wait() -> None:
        note.write_text(str(os.getpid()))
        time.sleep(60)

    def interrupt() -> None:
        while not note.exists() or not note.read_text():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    thread = threading.Thread(target=interrupt)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            call(wait)
    finally:
        thread.join()
        signal.signal(signal.SIGINT, before)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def test_torch_computes_in_the_child_beside_threads_and_locks_of_this_process() -> None:
    import torch
    from tqdm import tqdm

    torch.ones(2000, 2000).sum()  # torch's own threads are there now
    stop, held = threading.Event(), threading.Event()

    def hold() -> None:
        with tqdm.get_lock():
            held.set()
            stop.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    try:

        def compute() -> float:
            for _ in tqdm(range(3), disable=False):
                pass
            return float((torch.ones(2000, 2000) @ torch.ones(2000, 2000)).mean())

        assert call(compute) == 2000
    finally:
        stop.set()
        thread.join()
