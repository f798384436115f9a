"""What ranks have to agree on that were started one by one: they might have other configurations, weights or code."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256
from typing import Any

from ...accelerate.compile_options import TYPED
from ...config import trust
from ...config.environment import digest_code, digest_plugins, read_versions
from ...config.schema import KEYS_NOT_IN_IMAGES, to_data
from ...planning.plan import Plan


def describe_plans(plans: Sequence[Plan]) -> dict[str, str]:
    """What a command is about to do, name -> value; the same on all machines that do the same.

    Of a single run each key of its configuration is named, of a sweep each job.
    """
    about = {f"version of {name}": version for name, version in read_versions().items()}
    about |= {"code of wavespeed_runner": digest_code()[:12]}
    about |= {f"code of plugin {name}": digest[:12] for name, digest in digest_plugins().items()}
    if len(plans) > 1:
        return about | {f"job {number}": plan.asked[:12] for number, plan in enumerate(plans)}
    for plan in plans:
        about |= _describe_plan(plan)
    return about


def find_differences(rank: int, host: str, theirs: dict[str, str], ours: dict[str, str]) -> list[str]:
    """What a rank has otherwise than rank 0, a line each: `rank 1 (node7): steps=3, and rank 0 has steps=2`."""
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [
        f"rank {rank} ({host}): {name}={theirs.get(name, 'nothing')}, and rank 0 has {name}={ours.get(name, 'nothing')}"
        for name in names
        if theirs.get(name) != ours.get(name)
    ]


def _describe_plan(plan: Plan) -> dict[str, str]:
    config = trust.remove_places(to_data(plan.config))
    compared = {key: value for key, value in config.items() if key not in (*KEYS_NOT_IN_IMAGES, "device")}
    about = {_as_typed(key): TYPED.get(value, value) for key, value in _flatten(compared)}
    about["prompts and seeds"] = _digest([asdict(sample) for sample in plan.samples])
    for node in plan.graph.nodes.values():
        if node.stage.identity:
            about[f"weights and files of {node.name}"] = _digest(node.stage.identity(node.options))
    return about


def _flatten(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _flatten(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node if isinstance(node, str) else json.dumps(node)


def _as_typed(key: str) -> str:
    """The key that chooses an option: `parallel` for `parallel.name`, `cache/signal` for `cache.signal.name`."""
    group, _, last = key.rpartition(".")
    return group.replace(".", "/") if last == "name" and not group.startswith("graph") else key


def _digest(data: Any) -> str:
    return sha256(json.dumps(data, sort_keys=True, default=str).encode()).hexdigest()[:12]
