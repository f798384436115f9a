"""What a run is compared with: the reference's graph, and those that say how close the reference comes to itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import sha256
from typing import Any

from ..artifacts import Sample
from ..config.measure import NoiseFloor
from ..config.schema import Config, Dtype, ModelConfig, top_level
from .graph import Graph, keys, without_lossy


@dataclass(frozen=True, kw_only=True)
class Floor:
    """One way of generating the reference once more."""

    kind: str
    """`repeat` or `numerics`."""
    what: str
    """What is other about it, for people: `again`, `bfloat16`."""
    graph: Graph
    keys: list[dict[str, str]]
    """Node -> store key, one dict a sample."""


def reference_graph(config: Config, graph: Graph) -> Graph:
    """The graph with every lossy option off, and with the reference's own steps where it has some."""
    steps = config.measure.reference_steps
    lossless = without_lossy(graph)
    return lossless if steps is None else _following(lossless, {"steps": steps})


def floors(config: Config, graph: Graph, samples: list[Sample], matters: dict[str, str]) -> list[Floor]:
    """How the reference is to be generated once more, by `measure.noise_floor`.

    Args:
        graph: the reference's, or the run's where that is its own reference.
        matters: what joins every store key.

    Nothing of these is timed: one generation, no warm-up. The repetition has store keys of its own, so that what the
    reference left in the store is not mistaken for it; a loaded model is the same one.
    """
    if config.measure.noise_floor is NoiseFloor.none:
        return []
    once = _following(graph, {"measure.warmup": 0, "measure.repeats": 1})
    plain = [keys(once, sample, matters) for sample in samples]
    repeated = [{name: _again(once, name, key) for name, key in found.items()} for found in plain]
    found = [Floor(kind="repeat", what="again", graph=once, keys=repeated)]
    if config.measure.noise_floor is NoiseFloor.full:
        other = _mapped(once, _in_other_precision)
        theirs = [keys(other, sample, matters) for sample in samples]
        found.append(Floor(kind="numerics", what=other_precision(config.model.dtype).value, graph=other, keys=theirs))
    return found


def other_precision(dtype: Dtype) -> Dtype:
    """The precision whose rounding is as far from a model's own as the two that people run it in are: bfloat16 for
    float32, float32 for half ones."""
    return Dtype.bfloat16 if dtype is Dtype.float32 else Dtype.float32


def _again(graph: Graph, name: str, key: str) -> str:
    node = graph.nodes.get(name)
    return sha256(f"again {key}".encode()).hexdigest() if node and node.stage.pure else key


def _following(graph: Graph, values: dict[str, Any]) -> Graph:
    """The graph with other top-level values, by dotted key, in every option that follows them."""
    wanted = {top_level(key): value for key, value in values.items()}

    def changed(options: Any) -> Any:
        new = {f.name: wanted[f.default] for f in fields(options) if isinstance(f.default, str) and f.default in wanted}
        return replace(options, **new) if new else options

    return _mapped(graph, changed)


def _in_other_precision(options: Any) -> Any:
    models = {f.name: value for f in fields(options) if isinstance(value := getattr(options, f.name), ModelConfig)}
    new = {name: replace(model, dtype=other_precision(model.dtype)) for name, model in models.items()}
    return replace(options, **new) if new else options


def _mapped(graph: Graph, change: Callable[[Any], Any]) -> Graph:
    nodes = {
        name: replace(node, options=change(node.options)) if is_dataclass(node.options) else node
        for name, node in graph.nodes.items()
    }
    return Graph(nodes=nodes, output=graph.output)
