"""Which calls of stages need several ranks."""

from __future__ import annotations

from typing import Any

from ...accelerate.parallel.options import find_layout
from ...config.schema import ParallelConfig
from .group import Spec


def find_need(options: Any) -> Spec | None:
    """The ranks that the options of a stage ask for; None for one process.

    Args:
        options: of a stage. Those that have `parallel` also have `device`.
    """
    parallel = getattr(options, "parallel", None)
    if not isinstance(parallel, ParallelConfig):
        return None
    layout = find_layout(parallel)
    if layout.ranks == 1 or layout.data > 1:  # ranks of `data` share no image, and so no call
        return None
    return Spec(
        ranks=layout.ranks,
        device=options.device.partition(":")[0],
        timeout=parallel.timeout,  # type: ignore[attr-defined]  # every kind but `none` has it
    )
