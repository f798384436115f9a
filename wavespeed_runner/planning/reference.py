"""Builds the reference: the graph that a run is compared with, and its repetitions that measure the noise floor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from hashlib import sha256
from typing import Any

from ..artifacts import Sample
from ..config.lossy import remove_lossy
from ..config.measure import NoiseFloor, find_reference_steps, has_own_reference
from ..config.schema import Config, Dtype, ModelConfig, top_level
from ..config.solver import NAME as FITTED
from ..registry import find_implementation
from ..samplers import DefaultSampler, full_sampler, is_own_sampler
from .graph import Graph
from .store_keys import compute_keys_of_samples


@dataclass(frozen=True, kw_only=True)
class Floor:
    """One way of generating the reference once more."""

    kind: str
    """`repeat` or `numerics`."""
    what: str
    """How it differs from the reference, for people: `again`, `bfloat16`."""
    graph: Graph
    keys: list[dict[str, str]]
    """Node -> store key, one dict a sample."""


def build_reference_graph(config: Config, graph: Graph) -> Graph:
    """The graph with every lossy option off, and with the reference's own sampler and steps if it has any."""
    lossless = _change_options(graph, remove_lossy)
    return _change_followed(lossless, list_reference_values(config))


def list_reference_values(config: Config) -> dict[str, Any]:
    """Top-level values that the reference has of its own, whatever the run has: `sampler`, `steps`."""
    steps = {"steps": config.measure.reference_steps} if config.measure.reference_steps is not None else {}
    if not has_own_reference(config):
        return steps
    sampler: Any = DefaultSampler()
    if config.sampler.name == FITTED:  # stands for another one where the model's own draws fresh noise
        sampler = full_sampler(find_implementation("model", config.model), config.model)
    return {"sampler": sampler, "steps": find_reference_steps(config)}


def is_own_reference(config: Config, graph: Graph, reference: Graph) -> bool:
    """Whether a run is its own reference: nothing lossy is on, and sampler and steps are the reference's.

    The model's own sampler may also be named (`sampler=euler`): it computes what `sampler=default` computes.
    """
    family = find_implementation("model", config.model)
    if has_own_reference(config) and is_own_sampler(family, config.model, config.sampler):
        graph = _change_followed(graph, {"sampler": DefaultSampler()})
    return graph == reference


def plan_noise_floors(config: Config, graph: Graph, samples: list[Sample], matters: dict[str, str]) -> list[Floor]:
    """Plans how the reference is generated once more, as `measure.noise_floor` says.

    None of it is timed: one generation, no warm-up. The repetition has store keys of its own, so that the reference's
    entries in the store do not stand in for it; the loaded model is shared.

    Args:
        config: of the run.
        graph: the reference's, or the run's where that is its own reference.
        samples: the images that are asked for.
        matters: what joins every store key.
    """
    if config.measure.noise_floor is NoiseFloor.none:
        return []
    once = _change_followed(graph, {"measure.warmup": 0, "measure.repeats": 1})
    repeat_keys = [
        {name: _change_key(once, name, key) for name, key in keys.items()}
        for keys in compute_keys_of_samples(once, samples, matters)
    ]
    floors = [Floor(kind="repeat", what="again", graph=once, keys=repeat_keys)]
    if config.measure.noise_floor is NoiseFloor.full:
        other = _change_options(once, _change_precision)
        precision = find_other_precision(config.model.dtype).value
        keys = compute_keys_of_samples(other, samples, matters)
        floors.append(Floor(kind="numerics", what=precision, graph=other, keys=keys))
    return floors


def find_other_precision(dtype: Dtype) -> Dtype:
    """The precision to compare a model's own with: bfloat16 for float32, float32 for the half ones.

    Its rounding is as far from the model's own as the two precisions that people run it in are from each other.
    """
    return Dtype.bfloat16 if dtype is Dtype.float32 else Dtype.float32


def _change_key(graph: Graph, name: str, key: str) -> str:
    """Another key for the same output of a pure stage; what is not pure (a loaded model) keeps its key."""
    node = graph.nodes.get(name)
    return sha256(f"again {key}".encode()).hexdigest() if node and node.stage.pure else key


def _change_followed(graph: Graph, values: dict[str, Any]) -> Graph:
    """The graph with other top-level values, by dotted key, in every option that follows them."""
    wanted = {top_level(key): value for key, value in values.items()}

    def change(options: Any) -> Any:
        new = {f.name: wanted[f.default] for f in fields(options) if isinstance(f.default, str) and f.default in wanted}
        return replace(options, **new) if new else options

    return _change_options(graph, change)


def _change_precision(options: Any) -> Any:
    models = {f.name: value for f in fields(options) if isinstance(value := getattr(options, f.name), ModelConfig)}
    new = {name: replace(model, dtype=find_other_precision(model.dtype)) for name, model in models.items()}
    return replace(options, **new) if new else options


def _change_options(graph: Graph, change: Callable[[Any], Any]) -> Graph:
    nodes = {
        name: replace(node, options=change(node.options)) if is_dataclass(node.options) else node
        for name, node in graph.nodes.items()
    }
    return Graph(nodes=nodes, output=graph.output)
