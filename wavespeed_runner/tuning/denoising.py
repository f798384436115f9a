"""Runs a plan as far as its denoising stage, in whose place calibrations, searches and fits put something else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from ..config.denoise_options import DenoiseOptions
from ..config.environment import collect_key_parts
from ..execution.executor import Executor
from ..planning.graph import Graph, Node
from ..planning.store_keys import compute_keys

if TYPE_CHECKING:
    from ..artifacts import Sample
    from ..planning.plan import Plan


def run_denoising(plan: Plan, change: Callable[[Node], Node], batches: Iterable[Sequence[Sample]]) -> None:
    """Runs a plan's graph up to its denoising stage, with that stage changed, for one batch after another."""
    graph, matters = end_at_denoising(plan.graph, change), collect_key_parts(plan.config.device)
    executor = Executor(plan.store, rerun=False, on_stage=lambda name: None, device=plan.config.device)
    try:
        for samples in batches:
            executor.run(graph, list(samples), [compute_keys(graph, sample, matters) for sample in samples], [])
    finally:
        executor.close()


def end_at_denoising(graph: Graph, change: Callable[[Node], Node]) -> Graph:
    """The part of a graph that leads to its denoising stage, with that stage changed."""
    (last,) = [node for node in graph.nodes.values() if isinstance(node.options, DenoiseOptions)]
    needed, names = set(), [last.name]
    while names:
        name = names.pop()
        if name in graph.nodes and name not in needed:
            needed.add(name)
            names += graph.nodes[name].inputs.values()
    nodes = {name: node for name, node in graph.nodes.items() if name in needed}
    return Graph(nodes={**nodes, last.name: change(last)}, output=last.name)
