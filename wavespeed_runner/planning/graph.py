"""Builds the graph of stages from the config and checks that its nodes fit together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import Any

from ..artifacts import Images, Latents, Sample, Videos
from ..config.resolve import resolve_stage_options
from ..config.schema import Config
from ..errors import ConfigError, did_you_mean, make_printable
from ..registry import list_names, lookup
from ..stages.interface import Stage

SOURCE = "sample"
"""The node that every graph has: the image that is asked for."""


MAX_STAGES = 200
"""Of one graph; those that are shipped have at most ten. Every rule is applied once more for each."""


@dataclass(frozen=True, kw_only=True)
class Node:
    """One stage of the graph, with its options and the nodes that its inputs come from."""

    name: str
    stage: Stage
    options: Any
    inputs: dict[str, str]
    lasting: bool = True
    """False if its key does not say everything that determines its output: so for an impure stage without an identity,
    and for every stage behind one. Such a node runs every time and is never stored."""


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can run, and the node whose images are the result."""

    nodes: dict[str, Node]
    output: str


def build_graph(config: Config) -> Graph:
    """Builds the graph; checks names, options, inputs, types and order.

    Raises:
        ConfigError: unknown output or input, missing input, types that do not fit, a cycle.
    """
    nodes, output = _build_nodes(config), config.graph.output
    for node in nodes.values():
        _check_inputs(node, nodes)
    if output not in nodes:
        raise ConfigError(f"graph.output={output}: no such stage{did_you_mean(output, nodes)}")
    if not issubclass(nodes[output].stage.output, Images | Videos):
        gives = nodes[output].stage.output.__name__
        raise ConfigError(f"graph.output={output}: it gives {gives}, the result must be Images or Videos")
    try:
        order = TopologicalSorter({n.name: set(n.inputs.values()) - {SOURCE} for n in nodes.values()}).static_order()
        return Graph(nodes=mark_lasting([nodes[name] for name in order]), output=output)
    except CycleError as error:
        raise ConfigError(f"graph.stages: a cycle: {' -> '.join(error.args[1])}") from None


def is_one_call(graph: Graph) -> bool:
    """Whether a graph is what one call of a diffusers pipeline does with a prompt: encode, denoise, decode."""
    kinds = sorted(node.stage.name for node in graph.nodes.values())
    return kinds in (["decode", "denoise", "encode", "load"], ["decode_video", "denoise", "encode", "load"])


def refuse_many_stages(composed: dict[str, Any]) -> None:
    """Refuses a graph of very many stages, before anything is computed for each of them.

    Args:
        composed: the application's part of the composed config, plain data.

    Raises:
        ConfigError: says how many there are.
    """
    graph = composed.get("graph")
    stages = graph.get("stages") if isinstance(graph, dict) else None
    if isinstance(stages, dict) and len(stages) > MAX_STAGES:
        raise ConfigError(f"graph.stages: {len(stages)} stages, and a graph has at most {MAX_STAGES}; remove some")


def _build_nodes(config: Config) -> dict[str, Node]:
    for name, given in config.graph.stages.items():
        if not name.isprintable():
            raise ConfigError(f"graph.stages.{make_printable(name)}: a name without control characters is needed")
        if name == SOURCE:
            raise ConfigError(f"graph.stages.{name}: the name is taken by the graph's source; choose another")
        if given.stage not in list_names("stage"):
            near = did_you_mean(given.stage, list_names("stage"))
            raise ConfigError(f"graph.stages.{name}.stage={given.stage}: no stage of that name is registered{near}")
    options = resolve_stage_options(config)
    return {
        name: Node(
            name=name,
            stage=lookup("stage", given.stage).implementation,
            options=options[name],
            inputs=given.inputs,
        )
        for name, given in config.graph.stages.items()
    }


def mark_lasting(ordered: list[Node]) -> dict[str, Node]:
    """The nodes by name, each with its `lasting` set.

    Args:
        ordered: every node after the nodes that its inputs come from.
    """
    marked: dict[str, Node] = {}
    for node in ordered:
        repeatable = node.stage.pure or node.stage.identity is not None
        inputs_last = all(marked[source].lasting for source in node.inputs.values() if source != SOURCE)
        marked[node.name] = replace(node, lasting=repeatable and inputs_last)
    return marked


def list_results(graph: Graph) -> list[Node]:
    """The nodes of a graph that are provided for every image; the others only where one of these needs them.

    The record also wants the latents when the image is stored: they carry the times and steps of denoising.
    """
    used = {source for node in graph.nodes.values() for source in node.inputs.values()}
    return [
        node
        for name, node in graph.nodes.items()
        if name == graph.output or name not in used or issubclass(node.stage.output, Latents)
    ]


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
