"""The graph of stages: checked in the plan, executed on demand, its pure outputs kept in the store.

A node's key is a hash of its stage, its options, its inputs' keys and the versions that matter. Execution starts at
the nodes that nobody else uses and asks backwards; what the store has is read, and nothing behind it runs: with a
warm store not even the model is loaded.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from graphlib import CycleError, TopologicalSorter
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

from .config import CacheConfig, Config, as_data, stage_options
from .errors import ConfigError, RunError, did_you_mean
from .registry import lookup
from .stages import Stage
from .store import Store
from .values import Images, Latents, Sample

log = logging.getLogger("wavespeed_runner")

SOURCE = "sample"
"""The node that every graph has: the picture that is asked for."""


@dataclass(frozen=True, kw_only=True)
class Node:
    name: str
    stage: Stage
    options: Any
    inputs: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in an order in which they can run, and the node whose pictures are the result."""

    nodes: dict[str, Node]
    output: str


def build_graph(config: Config) -> Graph:
    """Checks names, options, inputs, types and order.

    Raises:
        ConfigError: unknown output or input, missing input, types that do not meet, a cycle.
    """
    nodes, output, options = {}, config.graph.output, stage_options(config)
    for name, given in config.graph.stages.items():
        if name == SOURCE:
            raise ConfigError(f"graph.stages.{name}: the name is taken by the graph's source; choose another")
        stage = lookup("stage", given.stage).implementation
        nodes[name] = Node(name=name, stage=stage, options=options[name], inputs=given.inputs)
    for node in nodes.values():
        _check_inputs(node, nodes)
    if output not in nodes:
        raise ConfigError(f"graph.output={output}: no such stage{did_you_mean(output, nodes)}")
    if not issubclass(nodes[output].stage.output, Images):
        gives = nodes[output].stage.output.__name__
        raise ConfigError(f"graph.output={output}: it gives {gives}, the result must be Images")
    try:
        order = TopologicalSorter({n.name: set(n.inputs.values()) - {SOURCE} for n in nodes.values()}).static_order()
        return Graph(nodes={name: nodes[name] for name in order}, output=output)
    except CycleError as error:
        raise ConfigError(f"graph.stages: a cycle: {' -> '.join(error.args[1])}") from None


def _check_inputs(node: Node, nodes: dict[str, Node]) -> None:
    where = f"graph.stages.{node.name}"
    for name, source in node.inputs.items():
        if name not in node.stage.inputs:
            raise ConfigError(
                f"{where}.inputs.{name}: stage '{node.stage.name}' has no such input{did_you_mean(name, node.stage.inputs)}"
            )
        if source != SOURCE and source not in nodes:
            raise ConfigError(f"{where}.inputs.{name}={source}: no such stage{did_you_mean(source, [*nodes, SOURCE])}")
        gives = Sample if source == SOURCE else nodes[source].stage.output
        takes = node.stage.inputs[name]
        if not issubclass(gives, takes):
            raise ConfigError(f"{where}.inputs.{name}={source}: it gives {gives.__name__}, {takes.__name__} is needed")
    missing = set(node.stage.inputs) - set(node.inputs) - node.stage.optional
    if missing:
        name = min(missing)
        raise ConfigError(
            f"{where}.inputs.{name}: missing; name the stage that gives {node.stage.inputs[name].__name__}"
        )


def without_lossy(graph: Graph) -> Graph:
    """The same graph with every lossy option off: what pictures are compared with."""
    none = lookup("cache", "none").options()

    def lossless(options: Any) -> Any:
        if not is_dataclass(options):
            return options
        caches = {f.name: none for f in fields(options) if isinstance(getattr(options, f.name), CacheConfig)}
        return replace(options, **caches)  # type: ignore[type-var]

    return Graph(
        nodes={name: replace(node, options=lossless(node.options)) for name, node in graph.nodes.items()},
        output=graph.output,
    )


def keys(graph: Graph, sample: Sample, matters: dict[str, str]) -> dict[str, str]:
    """Node -> store key (hex sha256), the source included."""
    found = {SOURCE: _digest({"sample": as_data(sample)})}
    for node in graph.nodes.values():
        module = sys.modules[node.stage.function.__module__]
        found[node.name] = _digest(
            {
                "stage": node.stage.name,
                "code": _source_digest(module.__file__),
                "options": as_data(node.options),
                "identity": node.stage.identity(node.options) if node.stage.identity else None,
                "inputs": {name: found[source] for name, source in sorted(node.inputs.items())},
                "matters": matters,
            }
        )
    return found


def _digest(data: Any) -> str:
    return sha256(json.dumps(data, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _source_digest(file: str | None) -> str | None:
    """A plugin's stage has code of its own: its file decides its results."""
    return sha256(Path(file).read_bytes()).hexdigest() if file else None


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One line of the record's `stages`."""

    name: str
    seconds: float
    source: str
    """`computed` or `store`."""
    peak_memory_bytes: int | None


class Execution:
    """Runs graphs for many samples in one process: loaded models stay, values of one sample go when it is done."""

    def __init__(self, store: Store, *, rerun: bool, on_stage: Callable[[str], None]) -> None:
        self.store = store
        self.rerun = rerun
        self.on_stage = on_stage
        """Called with a node's name before it is computed, so that a failure can say where."""
        self.resources: dict[str, Any] = {}
        """Outputs that cannot be stored (loaded models), by key."""
        self.fresh: set[str] = set()
        """Keys computed by this process: a rerun computes each once."""

    def run(self, graph: Graph, sample: Sample, node_keys: dict[str, str]) -> tuple[dict[str, Any], list[StageRun]]:
        """Values of all nodes that were needed, and what ran.

        Raises:
            RunError, or whatever a stage raises.
        """
        values: dict[str, Any] = {SOURCE: sample}
        runs: list[StageRun] = []

        def need(name: str) -> Any:
            if name not in values:
                values[name] = self._value(graph.nodes[name], node_keys[name], need, runs)
            return values[name]

        used = {source for node in graph.nodes.values() for source in node.inputs.values()}
        for name, node in graph.nodes.items():
            # Latents carry what happened while denoising: the record wants it, also when the picture is in the store.
            if name == graph.output or name not in used or issubclass(node.stage.output, Latents):
                need(name)
        return values, runs

    def _value(self, node: Node, key: str, need: Callable[[str], Any], runs: list[StageRun]) -> Any:
        if not node.stage.pure and key in self.resources:
            return self.resources[key]
        if node.stage.pure and (not self.rerun or key in self.fresh):
            began = perf_counter()
            raw = self.store.read(key)
            if raw is not None:
                value = node.stage.output.from_bytes(raw)  # type: ignore[attr-defined]
                runs.append(StageRun(name=node.name, seconds=perf_counter() - began, source="store", peak_memory_bytes=None))
                return value
        inputs = {name: need(source) for name, source in node.inputs.items()}
        return self._compute(node, key, inputs, runs)

    def _compute(self, node: Node, key: str, inputs: dict[str, Any], runs: list[StageRun]) -> Any:
        from .metrics.timing import peak_memory_bytes, reset_peak

        pipeline = next((v for v in inputs.values() if hasattr(v, "device")), None)
        device = pipeline.device if pipeline else "cpu"
        self.on_stage(node.name)
        reset_peak(device)
        began = perf_counter()
        value = node.stage.function(node.options, **inputs)
        seconds = perf_counter() - began
        if not isinstance(value, node.stage.output):
            raise RunError(
                f"stage '{node.name}' returned {type(value).__name__}, not {node.stage.output.__name__} as it declares"
            )
        runs.append(
            StageRun(name=node.name, seconds=seconds, source="computed", peak_memory_bytes=peak_memory_bytes(device))
        )
        if node.stage.pure:
            self.store.write(key, value.to_bytes(), stage=node.stage.name)
            self.fresh.add(key)
        else:
            self.resources[key] = value
        return value

    def close(self) -> None:
        """Lets go of loaded models."""
        self.resources.clear()
        gc.collect()
