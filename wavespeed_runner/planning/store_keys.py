"""Computes the store keys of a graph's outputs.

A node's key is a hash of its stage, its options, its inputs' keys, and everything outside the configuration that may
change a result: versions, code, device.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from .. import registry
from ..artifacts import Sample
from ..config.schema import to_data
from .graph import SOURCE, Graph, Node


def compute_keys(graph: Graph, sample: Sample, matters: dict[str, str], *, timing: bool = True) -> dict[str, str]:
    """Computes the store key of every node for one sample.

    Args:
        graph: the nodes.
        sample: the image that is asked for.
        matters: what `environment.collect_key_parts` gives.
        timing: False leaves out options that only say how a stage is timed; the keys then identify images.

    Returns:
        Node -> store key (sha256 in hex), the source included.
    """
    return compute_keys_of_samples(graph, [sample], matters, timing=timing)[0]


def compute_keys_of_samples(
    graph: Graph, samples: Iterable[Sample], matters: dict[str, str], *, timing: bool = True
) -> list[dict[str, str]]:
    """`compute_keys` of each sample; whatever does not depend on the sample is serialized once."""
    parts = {name: _serialize_node(node, matters, timing) for name, node in graph.nodes.items()}
    return [_compute_keys(graph, sample, parts) for sample in samples]


def compute_fingerprint(output_keys: Iterable[str]) -> str:
    """The fingerprint of a run whose images have these store keys."""
    return sha256("\n".join(output_keys).encode()).hexdigest()


def _compute_keys(graph: Graph, sample: Sample, parts: dict[str, tuple[str, str]]) -> dict[str, str]:
    keys = {SOURCE: sha256(_to_json({"sample": to_data(sample)}).encode()).hexdigest()}
    for node in graph.nodes.values():
        before, after = parts[node.name]
        inputs = _to_json({name: keys[source] for name, source in node.inputs.items()})
        keys[node.name] = sha256(f'{before[:-1]}, "inputs": {inputs}, {after[1:]}'.encode()).hexdigest()
    return keys


def _serialize_node(node: Node, matters: dict[str, str], timing: bool) -> tuple[str, str]:
    """What a node's key is a hash of, as JSON with sorted names: what comes before `inputs`, and what after."""
    identity = node.stage.identity(node.options) if node.stage.identity else None
    options = _remove_keys(to_data(node.options), _list_ignored_options(node, timing))
    before = {"code": _digest_loose_code(node.stage.function.__module__), "identity": identity}
    return _to_json(before), _to_json({"matters": matters, "options": options, "stage": node.stage.name})


def _list_ignored_options(node: Node, timing: bool) -> tuple[str, ...]:
    """Options that do not change the node's output."""
    idle = tuple(key for key, inputs in node.stage.needs.items() if not set(inputs) & set(node.inputs))
    return node.stage.ignores + idle + (() if timing else node.stage.timing)


def _remove_keys(options: dict[str, Any], dotted: tuple[str, ...]) -> dict[str, Any]:
    """Takes these dotted keys out of the options, in place."""
    for key in dotted:
        *path, last = key.split(".")
        node = options
        for part in path:
            node = node[part]
        node.pop(last, None)
    return options


def _to_json(data: Any) -> str:
    return json.dumps(data, sort_keys=True, allow_nan=False)


@lru_cache(maxsize=256)
def _digest_loose_code(module: str) -> str | None:
    """Digest of the file that defines a stage, if that is neither ours nor an installed plugin's.

    All code of this package and of the plugins is among what matters already. A stage that a script registers is not.
    """
    known = ("wavespeed_runner", *registry.load_all())
    if any(module == package or module.startswith(f"{package}.") for package in known):
        return None
    file = getattr(sys.modules[module], "__file__", None)
    return sha256(Path(file).read_bytes()).hexdigest() if file else None
