"""How long steps and images take, and how much memory. Seconds and bytes everywhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

TOO_FAST = 1.15
"""A speed-up that is by more than this factor above what the computed share allows was not measured fairly."""


class StepClock:
    """Times the steps of one generation; `tick` goes into diffusers' `callback_on_step_end`.

    A CUDA device works behind the program's back, and waiting for it after each step would slow it down. There the
    clock puts an event into the stream at each tick and reads all of them at the end. Other devices that work so (mps,
    xpu) have no such events in all releases of torch: they are waited for.

        clock = StepClock(device)
        clock.start()
        pipe(..., callback_on_step_end=lambda pipe, i, t, kwargs: (clock.tick(), kwargs)[1])
        clock.seconds()    # one value a step
    """

    def __init__(self, device: str) -> None:
        self.device = str(device)
        self._marks: list[Any] = []

    def start(self) -> None:
        """Begins the first step. What was measured before is forgotten."""
        self._marks = [self._mark()]

    def tick(self) -> None:
        """Ends a step and begins the next.

        Raises:
            RuntimeError: the clock was not started.
        """
        if not self._marks:
            raise RuntimeError("StepClock.tick before start")
        self._marks.append(self._mark())

    def seconds(self) -> list[float]:
        """One value for each finished step. Waits for the device."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if pairs and self._is_cuda:
            self._marks[-1].synchronize()
            return [begin.elapsed_time(end) / 1000 for begin, end in pairs]  # events tell milliseconds
        return [end - begin for begin, end in pairs]

    @property
    def _is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def _mark(self) -> Any:
        """A CUDA event in the device's current stream, or the time now."""
        if self._is_cuda:
            import torch

            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self.device))
            return event
        if self.device != "cpu":
            import torch

            getattr(torch, self.device.partition(":")[0]).synchronize()
        return time.perf_counter()


def summarize_timings(seconds: Sequence[float]) -> dict[str, Any]:
    """The figures of repeated timings: all values, median, 90th percentile, median absolute deviation.

    Medians, because one interruption by something else on the machine moves a mean. The percentile is interpolated
    linearly (numpy's default); the deviation is not scaled to a standard deviation. Of no values the figures are null.
    """
    import numpy as np

    raw = [float(value) for value in seconds]
    if not raw:
        return {"raw": [], "median": None, "p90": None, "mad": None}
    middle = median(raw)
    return {
        "raw": raw,
        "median": middle,
        "p90": float(np.percentile(raw, 90)),
        "mad": median(abs(value - middle) for value in raw),
    }


def peak_memory_bytes(device: str) -> int | None:
    """Most memory held at once since `reset_peak`, in bytes.

    On CUDA, what torch's allocator handed out on that device; elsewhere the resident memory of this whole process,
    since it began where `reset_peak` can do nothing (not Linux). None where the system does not tell (Windows).
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, IndexError, ValueError):
        # Before ru_maxrss, which on Linux a process inherits from the one that started it.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS tells bytes, Linux and the BSDs KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def reset_peak_memory(device: str) -> None:
    """Makes `peak_memory_bytes` start again from what is held now, where the system can do that."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        # proc(5): 5 resets the peak resident set size of this process.
        Path("/proc/self/clear_refs").write_text("5")


def wait_for_device(device: str) -> None:
    """Waits until the device has done what was queued: it works behind the host's back, and a clock must not read
    the queueing. The CPU has nothing to wait for."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device == "mps":
        import torch

        torch.mps.synchronize()


def is_too_fast(speedup: float | None, share: float | None) -> bool:
    """True if a speed-up is larger than the skipped work can explain; False where either is unknown.

    Ask only where skipping is all that saves time: weights in 8 bits make the computed steps faster, too.

    Args:
        speedup: against the reference.
        share: of the reference's work that was computed; blocks only, so the bound is a generous one.
    """
    return bool(speedup and share) and speedup * share > TOO_FAST  # type: ignore[operator]
