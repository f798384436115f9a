"""What a record cannot say: how many times as fast as its reference a run can be, and a config that is none.

A larger speed-up for the same work was not measured fairly.
"""

from __future__ import annotations

from typing import Any

from ..config.lossy import is_lossy_beside_caches
from ..config.schema import NAMED_NODES
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


def find_misshapen(config: dict[str, Any]) -> str:
    """The first part of a record's config that is no mapping, or no number, and has to be; empty where all are."""
    for path in (*(path for path in NAMED_NODES if "." not in path), "measure", "prompts", "graph", "graph.stages"):
        node: Any = config
        for name in path.split("."):
            node = node.get(name) if isinstance(node, dict) else None
        if node is not None and not isinstance(node, dict):
            return f"config.{path}: keys and their values are needed"
    for name, stage in ((config.get("graph") or {}).get("stages") or {}).items():
        if not isinstance(stage, dict) or not isinstance(stage.get("options") or {}, dict):
            return f"config.graph.stages.{name}: keys and their values are needed"
    if type(config.get("steps")) is not int:
        return "config.steps: a whole number is needed"
    return ""
