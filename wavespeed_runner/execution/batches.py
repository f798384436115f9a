"""Batches of a run, and how one of them is made: on this process, or for another as a message asks for it."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from ..artifacts import Sample
from ..planning.graph import Graph, Node
from ..planning.plan import Plan
from ..records.sample import StageRun
from ..registry import lookup
from ..storage.store import Store
from .executor import Executor
from .process_cache import ProcessCache

log = logging.getLogger("wavespeed_runner")


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A graph that every image goes through."""

    graph: Graph
    keys: list[dict[str, str]]
    """Node -> store key, for each image."""
    of: str
    """The `of` of its runs in the record."""

    def list_stored(self, nodes: Sequence[Node], images: range) -> list[str]:
        """The store keys of those of these nodes that are stored."""
        names = [node.name for node in nodes if node.lasting and node.stage.pure]
        return [self.keys[image][name] for image in images for name in names]

    def select(self, images: range) -> Pass:
        """The same with the keys of these images alone."""
        return replace(self, keys=[self.keys[image] for image in images])

    def describe(self, images: range) -> dict[str, Any]:
        """The pass for these images as part of a message."""
        nodes = {
            name: {
                "stage": node.stage.name,
                "options": node.options,
                "inputs": node.inputs,
                "lasting": node.lasting,
            }
            for name, node in self.graph.nodes.items()
        }
        return {"nodes": nodes, "output": self.graph.output, "keys": self.select(images).keys, "of": self.of}

    @classmethod
    def read(cls, told: dict[str, Any]) -> Pass:
        """What `describe` described."""
        nodes = {
            name: Node(name=name, **{**node, "stage": lookup("stage", node["stage"]).implementation})
            for name, node in told["nodes"].items()
        }
        return cls(graph=Graph(nodes=nodes, output=told["output"]), keys=told["keys"], of=told["of"])


def list_batches(plan: Plan) -> list[range]:
    """The indices of the images of each batch."""
    count, size = len(plan.samples), plan.config.batch_size
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


def run_pass(
    plan: Plan, executor: Executor, runs: list[StageRun], batch: range, each: Pass, *, is_made: bool
) -> list[dict[str, Any]]:
    """Runs a graph for a batch on this process; node -> value, for each image.

    Args:
        plan: of the run.
        executor: of this process.
        runs: what ran is appended to it.
        batch: indices of its images.
        each: the graph, and the keys of all images.
        is_made: it ran before, here or on another rank: what is read from the store again is not listed.
    """
    ran: list[StageRun] = [] if is_made else runs
    values = executor.run(
        each.graph,
        [plan.samples[index] for index in batch],
        [each.keys[index] for index in batch],
        ran,
        of=each.of,
        first=batch.start,
        denoise_again=plan.config.measure.in_turn and each.of in ("run", "reference") and not is_made,
    )
    if is_made:  # what was damaged or removed meanwhile
        runs += [run for run in ran if run.source == "computed"]
    return values


def make_batch(message: dict[str, Any]) -> dict[str, Any]:
    """On another rank: makes one batch as `DataRanks` asks for it; returns the answer."""
    passes = [Pass.read(each) for each in message["passes"]]
    models = _get_models()
    models.release({key for each in passes for keys in each.keys for key in keys.values()})
    models.fresh.update(message["fresh"])
    executor = Executor(
        Store(Path(message["store"])),
        rerun=message["rerun"],
        on_stage=lambda name: log.info("images from %d on: %s", message["first"], name),
        device=message["device"],
        cache=models,
    )
    executor.rank, executor.beside = message["rank"], message["beside"]
    runs = fill_store(executor, passes, message["samples"], message["first"], message["again"])
    return {"runs": msgspec.to_builtins(runs)}


def release_models() -> None:
    """On another rank: drops the models of the batches that it has made."""
    if _get_models().resources:
        _get_models().release()


@lru_cache(maxsize=1)
def _get_models() -> ProcessCache:
    """What another rank keeps from batch to batch, and from job to job: its models."""
    return ProcessCache(limit=0)


def fill_store(
    executor: Executor, passes: list[Pass], samples: list[Sample], first: int, again: bool
) -> list[StageRun]:
    """Fills the store with one batch; what ran. passes: with the keys of this batch alone."""
    runs: list[StageRun] = []
    for each in passes:
        executor.run(each.graph, samples, each.keys, runs, of=each.of, first=first, denoise_again=again)
    return runs
