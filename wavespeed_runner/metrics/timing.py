"""Measures the time of steps and images in seconds, and peak memory in bytes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

TOO_FAST = 1.15
"""A speed-up above the bound from the computed share, times this, was not measured fairly."""
MOST_GAIN = 4.0
"""No quantization, compilation and attention kernel together make the same work faster than so many times: 8-bit floats
and compilation are published with 1.96 for FLUX (docs/flux_ladder.md), and this leaves twice that."""


class StepClock:
    """Times the steps of one generation; call `tick` at the end of each step.

    CUDA devices run asynchronously, and waiting for them after each step would slow them down. There each tick records
    an event in the stream, and all events are read at the end. Other asynchronous devices (mps, xpu) lack such events
    in some releases of torch: the clock waits for them.

        clock = StepClock(device)
        clock.start()
        pipe(..., callback_on_step_end=lambda pipe, i, t, kwargs: (clock.tick(), kwargs)[1])
        clock.seconds()    # one value a step
    """

    def __init__(self, device: str) -> None:
        """Creates a clock for a torch device such as `cpu` or `cuda:1`."""
        self.device = str(device)
        self._marks: list[Any] = []

    def start(self) -> None:
        """Starts the first step, and discards earlier measurements."""
        self._marks = [self._mark()]

    def tick(self) -> None:
        """Ends a step and starts the next.

        Raises:
            RuntimeError: the clock was not started.
        """
        if not self._marks:
            raise RuntimeError("StepClock.tick was called before start")
        self._marks.append(self._mark())

    def seconds(self) -> list[float]:
        """The time of each finished step. Waits for the device."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if pairs and self._is_cuda:
            self._marks[-1].synchronize()
            return [begin.elapsed_time(end) / 1000 for begin, end in pairs]  # events measure milliseconds
        return [end - begin for begin, end in pairs]

    @property
    def _is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def _mark(self) -> Any:
        """A CUDA event in the device's current stream, or the current time."""
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
    """Summarizes repeated timings: all values, median, 90th percentile, median absolute deviation.

    Medians, because a single interruption on the machine shifts a mean. The percentile is interpolated linearly
    (numpy's default); the deviation is not scaled to a standard deviation. Without values all three are null.
    """
    import numpy as np

    raw = [float(value) for value in seconds]
    if not raw:
        return {"raw": [], "median": None, "p90": None, "mad": None}
    center = median(raw)
    return {
        "raw": raw,
        "median": center,
        "p90": float(np.percentile(raw, 90)),
        "mad": median(abs(value - center) for value in raw),
    }


def peak_memory_bytes(device: str) -> int | None:
    """Peak memory in bytes since `reset_peak_memory`.

    On CUDA: what torch's allocator handed out on that device. Elsewhere: the resident memory of the process; since its
    start on systems other than Linux, where the peak cannot be reset. None on Windows, which does not report it.
    """
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    with suppress(OSError, IndexError, ValueError):
        # Preferred to ru_maxrss, which a process on Linux inherits from its parent.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # macOS reports bytes, Linux and the BSDs KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def format_bytes(count: int) -> str:
    """`1.2 GB` from bytes, in powers of 1000."""
    value, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while value >= 999.95 and len(units) > 1:
        value /= 1000
        units.pop(0)
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"


def reset_peak_memory(device: str) -> None:
    """Resets the peak to the memory in use now, where the system supports it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return
    with suppress(OSError):
        # proc(5): 5 resets the peak resident set size of this process.
        Path("/proc/self/clear_refs").write_text("5")


def wait_for_device(device: str) -> None:
    """Waits until the device has finished its queue, so that a clock does not measure the queueing alone.

    The CPU has no queue.
    """
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device == "mps":
        import torch

        torch.mps.synchronize()


def is_too_fast(speedup: float | None, share: float | None, *, gain: float = 1.0) -> bool:
    """True if a speed-up is larger than the skipped work can explain; False where either is unknown.

    Args:
        speedup: against the reference.
        share: of the reference's work that was computed; blocks only, so the bound is a generous one.
        gain: most times as fast as the same work may be; 1 where skipping is all that saves time, `MOST_GAIN` where
            weights in 8 bits, for example, make the computed steps faster, too.
    """
    return bool(speedup and share) and speedup * share > TOO_FAST * gain  # type: ignore[operator]
