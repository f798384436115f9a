"""Executes graphs on demand: starts at the results and asks backwards.

What the store has is read, and nothing behind it runs: with a warm store not even the model is loaded.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from .errors import RunError
from .graph import SOURCE, Graph, Node
from .store import Store
from .values import Latents, Sample


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

    def __init__(self, store: Store, *, rerun: bool, on_stage: Callable[[str], None], device: str = "cpu") -> None:
        self.store = store
        self.device = device
        """Where stages work: waited for and asked for its peak memory."""
        self.rerun = rerun
        self.on_stage = on_stage
        """Called with a node's name before it is computed, so that a failure can say where."""
        self.resources: dict[str, Any] = {}
        """Outputs that cannot be stored (loaded models), by key."""
        self.fresh: set[str] = set()
        """Keys computed by this process: a rerun computes each once."""

    def run(self, graph: Graph, sample: Sample, node_keys: dict[str, str], runs: list[StageRun]) -> dict[str, Any]:
        """Values of all nodes that were needed.

        Args:
            runs: what ran is added to it, one by one, so that it is known also when a later stage fails.

        Raises:
            RunError, or whatever a stage raises.
        """
        values: dict[str, Any] = {SOURCE: sample}

        def need(name: str) -> Any:
            if name not in values:
                values[name] = self._value(graph.nodes[name], node_keys[name], need, runs)
            return values[name]

        used = {source for node in graph.nodes.values() for source in node.inputs.values()}
        for name, node in graph.nodes.items():
            # Latents carry what happened while denoising: the record wants it, also when the picture is in the store.
            if name == graph.output or name not in used or issubclass(node.stage.output, Latents):
                need(name)
        return values

    def _value(self, node: Node, key: str, need: Callable[[str], Any], runs: list[StageRun]) -> Any:
        if key in self.resources:
            return self.resources[key]
        if node.lasting and node.stage.pure and (not self.rerun or key in self.fresh):
            began = perf_counter()
            raw = self.store.read(key)
            if raw is not None:
                value = node.stage.output.from_bytes(raw)  # type: ignore[attr-defined]
                runs.append(
                    StageRun(name=node.name, seconds=perf_counter() - began, source="store", peak_memory_bytes=None)
                )
                return value
        inputs = {name: need(source) for name, source in node.inputs.items()}
        return self._compute(node, key, inputs, runs)

    def _compute(self, node: Node, key: str, inputs: dict[str, Any], runs: list[StageRun]) -> Any:
        from .metrics.timing import peak_memory_bytes, reset_peak, wait_for

        self.on_stage(node.name)
        reset_peak(self.device)
        began = perf_counter()
        value: Any = node.stage.function(node.options, **inputs)
        wait_for(self.device)
        seconds = perf_counter() - began
        if not issubclass(type(value), node.stage.output):
            raise RunError(
                f"stage '{node.name}' returned {type(value).__name__}, not {node.stage.output.__name__} as it declares"
            )
        peak = peak_memory_bytes(self.device)
        runs.append(StageRun(name=node.name, seconds=seconds, source="computed", peak_memory_bytes=peak))
        if node.lasting and node.stage.pure:
            self.store.write(key, value.to_bytes(), stage=node.stage.name)
            self.fresh.add(key)
        elif node.lasting:
            self.resources[key] = value
        return value

    def close(self) -> None:
        """Lets go of loaded models."""
        self.resources.clear()
        gc.collect()
