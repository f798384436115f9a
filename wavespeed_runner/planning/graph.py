"""The graph of stages as the plan sees it: nodes, checked against each other, and the keys of their outputs.

A node's key is a hash of its stage, its options, its inputs' keys and the versions that matter.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from typing import Any

from ..artifacts import Images, Sample, Videos
from ..config.lossy import remove_lossy
from ..config.resolve import resolve_stage_options
from ..config.schema import Config, to_data
from ..errors import ConfigError, did_you_mean
from ..registry import lookup, names
from ..stages.interface import Stage

SOURCE = "sample"
"""The node that every graph has: the image that is asked for."""


@dataclass(frozen=True, kw_only=True)
class Node:
    name: str
    stage: Stage
    options: Any
    inputs: dict[str, str]
    lasting: bool = True
    """Whether its key says all that decides its output. Not so for an impure stage without an identity, nor for any
    stage behind it: those run every time and are never stored."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can run, and the node whose images are the result."""

    nodes: dict[str, Node]
    output: str


def build_graph(config: Config) -> Graph:
    """Checks names, options, inputs, types and order.

    Raises:
        ConfigError: unknown output or input, missing input, types that do not meet, a cycle.
    """
    for name, given in config.graph.stages.items():
        if name == SOURCE:
            raise ConfigError(f"graph.stages.{name}: the name is taken by the graph's source; choose another")
        if given.stage not in names("stage"):
            near = did_you_mean(given.stage, names("stage"))
            raise ConfigError(f"graph.stages.{name}.stage={given.stage}: no stage of that name is registered{near}")
    nodes, output, options = {}, config.graph.output, resolve_stage_options(config)
    for name, given in config.graph.stages.items():
        stage = lookup("stage", given.stage).implementation
        nodes[name] = Node(name=name, stage=stage, options=options[name], inputs=given.inputs)
    for node in nodes.values():
        _check_inputs(node, nodes)
    if output not in nodes:
        raise ConfigError(f"graph.output={output}: no such stage{did_you_mean(output, nodes)}")
    if not issubclass(nodes[output].stage.output, Images | Videos):
        gives = nodes[output].stage.output.__name__
        raise ConfigError(f"graph.output={output}: it gives {gives}, the result must be Images or Videos")
    try:
        order = TopologicalSorter({n.name: set(n.inputs.values()) - {SOURCE} for n in nodes.values()}).static_order()
        return Graph(nodes=lasting([nodes[name] for name in order]), output=output)
    except CycleError as error:
        raise ConfigError(f"graph.stages: a cycle: {' -> '.join(error.args[1])}") from None


def lasting(ordered: list[Node]) -> dict[str, Node]:
    """The nodes by name, each with its `lasting` settled."""
    found: dict[str, Node] = {}
    for node in ordered:
        own = node.stage.pure or node.stage.identity is not None
        behind = all(found[source].lasting for source in node.inputs.values() if source != SOURCE)
        found[node.name] = replace(node, lasting=own and behind)
    return found


def _check_inputs(node: Node, nodes: dict[str, Node]) -> None:
    where = f"graph.stages.{node.name}"
    for name, source in node.inputs.items():
        if name not in node.stage.inputs:
            raise ConfigError(
                f"{where}.inputs.{name}: stage '{node.stage.name}' has no such input"
                f"{did_you_mean(name, node.stage.inputs)}"
            )
        if source != SOURCE and source not in nodes:
            raise ConfigError(f"{where}.inputs.{name}={source}: no such stage{did_you_mean(source, [*nodes, SOURCE])}")
        gives = Sample if source == SOURCE else nodes[source].stage.output
        takes = node.stage.inputs[name]
        if not issubclass(gives, takes):
            # An optional input's type is a union, which has no name.
            needed = getattr(takes, "__name__", takes)
            raise ConfigError(f"{where}.inputs.{name}={source}: it gives {gives.__name__}, {needed} is needed")
    missing = set(node.stage.inputs) - set(node.inputs) - node.stage.optional
    if missing:
        name = min(missing)
        raise ConfigError(
            f"{where}.inputs.{name}: missing; name the stage that gives {node.stage.inputs[name].__name__}"
        )


def without_lossy(graph: Graph) -> Graph:
    """The same graph with every lossy option off: what images are compared with."""
    return Graph(
        nodes={name: replace(node, options=remove_lossy(node.options)) for name, node in graph.nodes.items()},
        output=graph.output,
    )


def keys(graph: Graph, sample: Sample, matters: dict[str, str], *, timing: bool = True) -> dict[str, str]:
    """Node -> store key (hex sha256), the source included.

    Args:
        timing: False leaves out the options that only say how a stage is timed: what is left identifies images.
    """
    return keys_of(graph, [sample], matters, timing=timing)[0]


def keys_of(
    graph: Graph, samples: Iterable[Sample], matters: dict[str, str], *, timing: bool = True
) -> list[dict[str, str]]:
    """`keys` of each sample: what does not depend on the sample is put into words once."""
    parts = {name: _parts_of_key(node, matters, timing) for name, node in graph.nodes.items()}
    return [_keys(graph, sample, parts) for sample in samples]


def _keys(graph: Graph, sample: Sample, parts: dict[str, tuple[str, str]]) -> dict[str, str]:
    found = {SOURCE: sha256(_as_text({"sample": to_data(sample)}).encode()).hexdigest()}
    for node in graph.nodes.values():
        before, after = parts[node.name]
        inputs = _as_text({name: found[source] for name, source in node.inputs.items()})
        found[node.name] = sha256(f'{before[:-1]}, "inputs": {inputs}, {after[1:]}'.encode()).hexdigest()
    return found


def _parts_of_key(node: Node, matters: dict[str, str], timing: bool) -> tuple[str, str]:
    """What a node's key is a digest of, as JSON with sorted names: what comes before `inputs`, and what after."""
    module = sys.modules[node.stage.function.__module__]
    identity = node.stage.identity(node.options) if node.stage.identity else None
    options = _without(to_data(node.options), _left_out(node, timing))
    before = {"code": _source_digest(getattr(module, "__file__", None)), "identity": identity}
    return _as_text(before), _as_text({"matters": matters, "options": options, "stage": node.stage.name})


def _left_out(node: Node, timing: bool) -> tuple[str, ...]:
    """Options that do not decide the node's output."""
    idle = tuple(key for key, inputs in node.stage.needs.items() if not set(inputs) & set(node.inputs))
    return node.stage.ignores + idle + (() if timing else node.stage.timing)


def _without(options: dict[str, Any], dotted: tuple[str, ...]) -> dict[str, Any]:
    """The options less those named."""
    for key in dotted:
        *path, last = key.split(".")
        node = options
        for part in path:
            node = node[part]
        node.pop(last, None)
    return options


def _as_text(data: Any) -> str:
    return json.dumps(data, sort_keys=True, allow_nan=False)


@lru_cache(maxsize=256)
def _source_digest(file: str | None) -> str | None:
    """A plugin's stage has code of its own: its file decides its results."""
    return sha256(Path(file).read_bytes()).hexdigest() if file else None
