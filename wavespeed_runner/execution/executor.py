"""Executes a graph on demand: from its results backwards, so that nothing runs whose value is stored already.

With everything in the store, not even the model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from msgspec import UNSET

from ..artifacts import Latents, Pipeline, Sample
from ..errors import RunError, format_error
from ..metrics.timing import peak_memory_bytes, reset_peak_memory, wait_for_device
from ..planning.graph import SOURCE, Graph, Node, list_results
from ..records.sample import Source, StageRun
from ..storage.store import Store
from .process_cache import ProcessCache
from .ranks.group import RankGroup


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Images that go through a graph together."""

    graph: Graph
    keys: list[dict[str, str]]
    """Node -> store key, for each image."""
    values: list[dict[str, Any]]
    """Node -> value, for each image, as far as it is known."""
    runs: list[StageRun]
    of: str
    first: int
    denoise_again: bool


class Executor:
    """Runs graphs for many images in one process: loaded models stay, values of an image go when it is done.

    Args:
        store: where outputs of pure stages are read and written.
        rerun: compute again what the store has, but each key once in a process.
        on_stage: called with a node's name before it is computed, so that a failure can say where it happened.
        device: where stages work; it is waited for, and asked for its peak memory.
        cache: what outlives this executor; without one, nothing does.
        rank_logs: folder for the logs of other ranks, where stages need some.
    """

    def __init__(
        self,
        store: Store,
        *,
        rerun: bool,
        on_stage: Callable[[str], None],
        device: str = "cpu",
        cache: ProcessCache | None = None,
        rank_logs: Path | None = None,
    ) -> None:
        self.store, self.rerun, self.on_stage, self.device, self.cache = store, rerun, on_stage, device, cache
        self.kept = cache or ProcessCache(limit=0)
        self.kept.rank_logs = rank_logs
        self.rank: int | None = None
        """This process among several that share the images of a run; None: it makes them all."""
        self.beside = 1
        """Processes that compute on the same cores meanwhile, this one included."""
        self.resources, self.fresh = self.kept.resources, self.kept.fresh

    def run(
        self,
        graph: Graph,
        samples: list[Sample],
        node_keys: list[dict[str, str]],
        runs: list[StageRun],
        *,
        of: str = "run",
        first: int = 0,
        denoise_again: bool = False,
    ) -> list[dict[str, Any]]:
        """Returns the values of all nodes that were needed, for each image.

        The images go through the graph side by side, so that a stage that can work on several at once gets them
        together. The values of an image do not depend on its neighbours: such stages have to see to that.

        Args:
            graph: what to run.
            samples: the images that are asked for.
            node_keys: node -> store key, for each image.
            runs: what ran is appended to it, one by one, so that it is known also when a later stage fails.
            of: the `of` of these runs in the record.
            first: index of the first of these images in the record.
            denoise_again: compute latents also where the store has them.

        Raises:
            RunError: a stage returned something else than it declares. Whatever a stage raises passes through.
        """
        batch = _Batch(
            graph=graph,
            keys=node_keys,
            values=[{SOURCE: sample} for sample in samples],
            runs=runs,
            of=of,
            first=first,
            denoise_again=denoise_again,
        )
        for node in list_results(graph):
            self._provide(batch, node.name, list(range(len(samples))))
        return batch.values

    def _provide(self, batch: _Batch, name: str, indices: list[int]) -> None:
        """Provides a node's value for these images.

        Read from the process or the store, else computed from its inputs, which are provided in the same way.
        """
        missing = [index for index in indices if name not in batch.values[index]]
        if not missing:
            return
        node = batch.graph.nodes[name]
        # Images with the same key have the same value, which is computed once.
        same_key: dict[str, list[int]] = {}
        for index in missing:
            value = self._read(batch, node, index)
            if value is not None:
                batch.values[index][name] = value
            else:
                same_key.setdefault(batch.keys[index][name] if node.lasting else str(index), []).append(index)
        computing = [group[0] for group in same_key.values()]
        if not computing:
            return
        for source in node.inputs.values():
            self._provide(batch, source, computing)
        for group, value in zip(same_key.values(), self._compute(batch, node, computing), strict=True):
            for index in group:
                batch.values[index][name] = value

    def _read(self, batch: _Batch, node: Node, index: int) -> Any:
        """Reads a node's value from this process or from the store; None where neither has it."""
        if batch.denoise_again and issubclass(node.stage.output, Latents):
            return None
        key = batch.keys[index][node.name]
        if key in self.resources:
            return self.resources[key]
        if not (node.lasting and node.stage.pure) or (self.rerun and key not in self.fresh):
            return None
        start = perf_counter()
        raw = (self.cache.read(key) if self.cache else None) or self.store.read(key)
        if raw is None:
            return None
        try:
            value = node.stage.output.from_store(raw)  # type: ignore[attr-defined]
        except (ValueError, TypeError, KeyError) as error:
            self.store.refuse(key, format_error(error))
            return None
        if self.cache:
            self.cache.remember(key, raw)
        batch.runs.append(self._describe(batch, node, index, perf_counter() - start, None, "store"))
        return value

    def _compute(self, batch: _Batch, node: Node, indices: list[int]) -> list[Any]:
        """Computes a node for these images: together where its stage can, else one after the other."""
        values = []
        for group in [indices] if node.stage.batch else [[index] for index in indices]:
            computed = self._run_stage(batch, node, group)
            for index, value in zip(group, computed, strict=True):
                self._keep(node, batch.keys[index][node.name], value)
            values += computed
        return values

    def _run_stage(self, batch: _Batch, node: Node, indices: list[int]) -> list[Any]:
        """Calls a stage once and lists the time and memory that it took; each image has its share of the time."""
        inputs = [{key: batch.values[index][source] for key, source in node.inputs.items()} for index in indices]
        self.on_stage(node.name)
        ranks = self.kept.find_ranks(node, inputs[0].values())
        reset_peak_memory(self.device)
        start = perf_counter()

        def compute() -> list[Any]:
            run_batch = node.stage.batch
            return run_batch(node.options, inputs) if run_batch else [node.stage.function(node.options, **inputs[0])]

        if ranks is None:
            values = compute()
        else:
            keep = [batch.keys[i][node.name] if node.lasting and not node.stage.pure else None for i in indices]
            values = ranks.call(node.stage.name, node.options, inputs, keep, compute)
            _note_ranks(values, ranks)
        wait_for_device(self.device)
        seconds = (perf_counter() - start) / len(indices)
        peak = peak_memory_bytes(self.device)
        batch.runs.extend(self._describe(batch, node, index, seconds, peak, "computed") for index in indices)
        if self.beside > 1:
            _note_neighbours(values, self.beside)
        return values

    def _keep(self, node: Node, key: str, value: Any) -> None:
        """Checks the type of a stage's output, and keeps it in the store or, where it cannot be stored, here."""
        if not issubclass(type(value), node.stage.output):
            raise RunError(
                f"stage '{node.name}' returned {type(value).__name__}, not {node.stage.output.__name__} as it declares"
            )
        if node.lasting and node.stage.pure:
            raw = value.to_bytes()
            self.store.write(key, raw, stage=node.stage.name)
            self.fresh.add(key)
            if self.cache:
                self.cache.remember(key, raw)
        elif node.lasting:
            self.resources[key] = value

    def _describe(
        self, batch: _Batch, node: Node, index: int, seconds: float, peak: int | None, source: Source
    ) -> StageRun:
        """The entry of the record for one image."""
        return StageRun(
            name=node.name,
            sample=batch.first + index,
            seconds=seconds,
            source=source,
            peak_memory_bytes=peak,
            of=batch.of,
            rank=UNSET if self.rank is None else self.rank,
        )

    def close(self) -> None:
        """Drops loaded models, unless they are in a cache that outlives this executor."""
        if self.cache is None:
            self.kept.clear()


def _note_neighbours(values: list[Any], beside: int) -> None:
    """Adds to what was timed how many processes had to share the cores: others read it from the store later."""
    for value in values:
        if isinstance(value, Latents) and "timed_by" in value.data:
            value.data["timed_beside"] = beside


def _note_ranks(values: list[Any], ranks: RankGroup) -> None:
    """Adds what is known of the ranks to the evidence of what they have loaded, and of what they have denoised."""
    for value in values:
        if isinstance(value, Pipeline):
            value.engaged["parallel"] = {**(value.engaged.get("parallel") or {}), **ranks.evidence}
        if isinstance(value, Latents) and (found := value.data.get("engaged", {}).get("parallel")):
            peaks = [value.data.get("peak_memory"), *ranks.peaks]
            each = [rank | {"peak_memory_bytes": peak} for rank, peak in zip(found["ranks"], peaks, strict=True)]
            value.data["engaged"]["parallel"] = {**found, "ranks": each}
