"""How many times as fast as its reference a run can be for the same work: a larger speed-up was not measured fairly."""

from __future__ import annotations

from ..config.lossy import is_lossy_beside_caches
from ..metrics.timing import MOST_GAIN
from .record import Record


def find_most_gain(record: Record) -> float:
    """The most times as fast as the reference the same work can be.

    1 where skipping is all that saves time; `MOST_GAIN` where quantization, for example, makes the computed steps
    faster; times the ranks that share an image, since one rank computes the reference.
    """
    kernels = is_lossy_beside_caches({**record.config, "parallel": None})
    return (MOST_GAIN if kernels else 1.0) * _count_ranks(record)


def _count_ranks(record: Record) -> int:
    """The ranks that computed each image together."""
    if (record.config.get("parallel") or {}).get("name") == "data":
        return 1  # each image is one rank's
    return len((record.engaged.parallel or {}).get("ranks") or [None])
