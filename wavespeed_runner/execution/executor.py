"""Executes graphs on demand: starts at the results and asks backwards.

What the store has is read, and nothing behind it runs: with a warm store not even the model is loaded.
"""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Callable, Set
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from ..artifacts import Latents, Sample
from ..errors import RunError
from ..planning.graph import SOURCE, Graph, Node
from ..storage.store import Store

MEMORY_BYTES = 2**30
"""Most bytes of stored values that a sweep keeps in memory."""


@dataclass(frozen=True, kw_only=True)
class StageRun:
    """One line of the record's `stages`."""

    name: str
    sample: int
    """Position among those that ran together."""
    seconds: float
    source: str
    """`computed` or `store`."""
    peak_memory_bytes: int | None


class Memory:
    """What a process keeps from one run to the next: loaded models, and what it would read from the store again."""

    def __init__(self, limit: int = MEMORY_BYTES) -> None:
        self.resources: dict[str, Any] = {}
        """Outputs that cannot be stored (loaded models), by key."""
        self.fresh: set[str] = set()
        """Keys computed by this process: a rerun computes each once."""
        self.limit = limit
        self._stored: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def read(self, key: str) -> bytes | None:
        """What is in the store under a key, where it is remembered."""
        raw = self._stored.get(key)
        if raw is not None:
            self._stored.move_to_end(key)
        return raw

    def remember(self, key: str, raw: bytes) -> None:
        """Keeps what is in the store now; what was used longest ago goes when there is too much."""
        # What was computed again is another value under the same key: new timings, for one.
        self._bytes -= len(self._stored.pop(key, b""))
        if len(raw) > self.limit:
            return
        self._stored[key] = raw
        self._bytes += len(raw)
        while self._bytes > self.limit:
            self._bytes -= len(self._stored.popitem(last=False)[1])

    def keep_only(self, keys: set[str]) -> None:
        """Lets go of everything but what has one of these keys: before anything else is loaded in its place."""
        for key in self._stored.keys() - keys:
            self._bytes -= len(self._stored.pop(key))
        release(self.resources, keep=keys)

    def clear(self) -> None:
        """Lets go of everything."""
        self._stored.clear()
        self._bytes = 0
        release(self.resources)


def release(resources: dict[str, Any], keep: Set[str] = frozenset()) -> None:
    """Lets go of loaded models, but those whose keys are to be kept, and gives their memory back to the device."""
    gone = resources.keys() - keep
    for key in gone:
        del resources[key]
    # Where nothing is kept, also of a model that failed to load and was never among the resources.
    if gone or not keep:
        _free()


def _free() -> None:
    """Models hold cycles; and what torch has cached of a GPU's memory is of no use to the next one."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


class Execution:
    """Runs graphs for many samples in one process: loaded models stay, values of one sample go when it is done."""

    def __init__(
        self,
        store: Store,
        *,
        rerun: bool,
        on_stage: Callable[[str], None],
        device: str = "cpu",
        memory: Memory | None = None,
    ) -> None:
        self.store = store
        self.device = device
        """Where stages work: waited for and asked for its peak memory."""
        self.rerun = rerun
        self.on_stage = on_stage
        """Called with a node's name before it is computed, so that a failure can say where."""
        self.memory = memory
        """What outlives this execution; without one, nothing does."""
        kept = memory or Memory(limit=0)
        self.resources, self.fresh = kept.resources, kept.fresh

    def run(
        self,
        graph: Graph,
        samples: list[Sample],
        node_keys: list[dict[str, str]],
        runs: list[StageRun],
        *,
        denoise_again: bool = False,
    ) -> list[dict[str, Any]]:
        """Values of all nodes that were needed, for each sample.

        The samples go through the graph side by side, so that a stage that can work on several at once gets them
        together. A sample's values do not depend on its neighbours: that is for such stages to keep.

        Args:
            runs: what ran is added to it, one by one, so that it is known also when a later stage fails.
            denoise_again: what gives latents is computed also where the store has it.

        Raises:
            RunError, or whatever a stage raises.
        """
        values: list[dict[str, Any]] = [{SOURCE: sample} for sample in samples]

        def need(name: str, indices: list[int]) -> None:
            missing = [index for index in indices if name not in values[index]]
            if not missing:
                return
            node = graph.nodes[name]
            anew = denoise_again and issubclass(node.stage.output, Latents)
            for index in () if anew else missing:
                kept = self._kept(node, node_keys[index][name], index, runs)
                if kept is not None:
                    values[index][name] = kept
            # What has the same key is the same, and computed once.
            alike: dict[str, list[int]] = {}
            for index in missing:
                if name not in values[index]:
                    alike.setdefault(node_keys[index][name] if node.lasting else str(index), []).append(index)
            computing = [group[0] for group in alike.values()]
            if not computing:
                return
            for source in node.inputs.values():
                need(source, computing)
            keys = [node_keys[index][name] for index in computing]
            inputs = [{key: values[index][source] for key, source in node.inputs.items()} for index in computing]
            made = self._compute(node, keys, inputs, computing, runs)
            for group, value in zip(alike.values(), made, strict=True):
                for index in group:
                    values[index][name] = value

        used = {source for node in graph.nodes.values() for source in node.inputs.values()}
        for name, node in graph.nodes.items():
            # Latents carry what happened while denoising: the record wants it, also when the image is in the store.
            if name == graph.output or name not in used or issubclass(node.stage.output, Latents):
                need(name, list(range(len(samples))))
        return values

    def _kept(self, node: Node, key: str, index: int, runs: list[StageRun]) -> Any:
        """What this process or the store has of a node; None for nothing."""
        if key in self.resources:
            return self.resources[key]
        if not (node.lasting and node.stage.pure) or (self.rerun and key not in self.fresh):
            return None
        began = perf_counter()
        raw = (self.memory.read(key) if self.memory else None) or self.store.read(key)
        if raw is None:
            return None
        if self.memory:
            self.memory.remember(key, raw)
        value = node.stage.output.from_bytes(raw)  # type: ignore[attr-defined]
        seconds = perf_counter() - began
        runs.append(StageRun(name=node.name, sample=index, seconds=seconds, source="store", peak_memory_bytes=None))
        return value

    def _compute(
        self, node: Node, keys: list[str], inputs: list[dict[str, Any]], indices: list[int], runs: list[StageRun]
    ) -> list[Any]:
        """The node's output for each of the inputs: all at once where the stage can, else one after the other."""
        everyone = list(range(len(inputs)))
        made = []
        for group in [everyone] if node.stage.batch else [[position] for position in everyone]:
            values = self._timed(node, [inputs[i] for i in group], [indices[i] for i in group], runs)
            for position, value in zip(group, values, strict=True):
                self._keep(node, keys[position], value)
            made += values
        return made

    def _keep(self, node: Node, key: str, value: Any) -> None:
        """Checks what a stage gave, and puts it where it will be found again."""
        if not issubclass(type(value), node.stage.output):
            raise RunError(
                f"stage '{node.name}' returned {type(value).__name__}, not {node.stage.output.__name__} as it declares"
            )
        if node.lasting and node.stage.pure:
            raw = value.to_bytes()
            self.store.write(key, raw, stage=node.stage.name)
            self.fresh.add(key)
            if self.memory:
                self.memory.remember(key, raw)
        elif node.lasting:
            self.resources[key] = value

    def _timed(self, node: Node, inputs: list[dict[str, Any]], indices: list[int], runs: list[StageRun]) -> list[Any]:
        """Computes, and lists what it took: of samples that were computed together, each its share."""
        from ..metrics.timing import peak_memory_bytes, reset_peak_memory, wait_for_device

        self.on_stage(node.name)
        reset_peak_memory(self.device)
        began = perf_counter()
        options, together = node.options, node.stage.batch
        made = together(options, inputs) if together else [node.stage.function(options, **inputs[0])]
        wait_for_device(self.device)
        seconds = (perf_counter() - began) / len(indices)
        peak = peak_memory_bytes(self.device)
        runs += [
            StageRun(name=node.name, sample=index, seconds=seconds, source="computed", peak_memory_bytes=peak)
            for index in indices
        ]
        return made

    def close(self) -> None:
        """Lets go of loaded models, unless they were given to it to keep."""
        if self.memory is None:
            release(self.resources)
