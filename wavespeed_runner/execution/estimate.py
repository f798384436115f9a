"""Estimates the memory of a run before it: the graph runs once on shapes alone, and nothing is loaded.

Counted are weights, what operations create and still use, and the features that a cache strategy keeps. Not counted are
workspaces inside kernels, and what the driver and the libraries take for themselves (on CUDA some hundred megabytes).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ..accelerate import memory, quant, quant_sizes, switches
from ..artifacts import Pipeline
from ..config.denoise_options import DenoiseOptions
from ..errors import ConfigError, RunError
from ..metrics.allocations import Allocations, count_allocations
from ..models.weights.fake_pipeline import build_shapes, run_fake
from ..models.weights.quantized import count_stored_bytes, find_quantized
from ..models.weights.size import count_component_bytes, list_weights
from ..planning.graph import SOURCE, Node
from ..planning.plan import Plan
from ..registry import find_implementation
from ..stages.apply import LoadOptions

MOST_CALLS = 6
"""Calls of each module that are followed. A cache strategy has collected all that it keeps by then."""


@dataclass(kw_only=True)
class StageEstimate:
    """What one node of the graph needs."""

    name: str
    weights: int
    """Bytes of the weights on the device meanwhile."""
    activations: int
    """Bytes at the peak, on top of the weights: activations, and features that a cache strategy keeps."""
    largest: int
    """Bytes of the largest component that it or its reference calls: the weights that are needed with
    `memory.offload=model`."""
    reference: int
    """Bytes more that the reference needs, which computes without quantization in the same process; 0 without one."""

    @property
    def total(self) -> int:
        """Bytes at the peak."""
        return self.weights + self.activations

    @property
    def with_reference(self) -> int:
        """Bytes at the peak of a run with its reference."""
        return self.total + self.reference


@dataclass(kw_only=True)
class Estimate:
    """The memory of a run on its device."""

    shapes: str
    """Where the shapes come from."""
    components: dict[str, int]
    """Component -> bytes of its weights."""
    stages: list[StageEstimate]

    @property
    def peak(self) -> StageEstimate:
        """The stage that needs most."""
        return max(self.stages, key=lambda stage: stage.with_reference)


@dataclass(kw_only=True)
class _Followed:
    """What is seen while the graph runs."""

    allocations: Allocations
    called: set[str] = field(default_factory=set)
    """Components that the stage has called."""

    @contextmanager
    def inside(self, component: str) -> Iterator[None]:
        """In a call of a component."""
        self.called.add(component)
        with count_allocations(self.allocations):
            yield


def estimate_memory(plan: Plan) -> Estimate:
    """Runs the first image's graph on shapes alone.

    Raises:
        RunError: group offloading, whose groups are made only when it runs; or more than one loaded model.
    """
    loads = [node for node in plan.graph.nodes.values() if isinstance(node.options, LoadOptions)]
    if len(loads) != 1:
        raise RunError(f"the graph loads {len(loads)} models; the memory of graphs with one is estimated")
    options = loads[0].options
    settings = options.memory
    if settings.offload is memory.Offload.group:
        raise RunError("memory.offload=group: not estimated; what is on the device depends on what was called before")
    family = find_implementation("model", options.model)
    followed = _Followed(allocations=Allocations(on_cpu=plan.config.device == "cpu"))
    pipe, shapes = build_shapes(family, options.model)
    with run_fake(pipe, followed.inside, MOST_CALLS) as fake_mode:
        plain = count_component_bytes(pipe)
        with fake_mode:
            _change_weights(pipe, family, options)
        for tensor in list_weights(pipe):
            followed.allocations.leave_out(tensor)
        methods, stored = find_quantized(options.model, family), count_stored_bytes(options.model, family)
        components = count_component_bytes(pipe) | stored
        pipeline = Pipeline(pipe=pipe, model=options.model, family=family, device="cpu")
        quantized = {name: size for name, size in plain.items() if size != components[name]}
        beside = quantized if plan.config.measure.reference and options.quant.name != "none" else {}
        stages = [
            _add_reference(stage, {name: size for name, size in beside.items() if name in called}, beside, settings)
            for stage, called in _run_stages(plan, loads[0].name, pipeline, components, followed, settings)
        ]
    if stored:
        named = ", ".join(f"{name} ({methods[name]})" for name in stored)
        shapes += f"; stored quantized, so weights as on the disk: {named}"
    return Estimate(shapes=shapes, components=components, stages=stages)


def _change_weights(pipe: Any, family: Any, options: LoadOptions) -> None:
    """What the load stage does to the size of weights and activations. Adapters add next to nothing."""
    import torch

    assert isinstance(options.accelerate, switches.SwitchSettings)
    assert isinstance(options.memory, memory.MemorySettings)
    switches.apply_switches(pipe, family, options.accelerate)
    quant.apply_quant(pipe, family, options.quant, "cpu", quant_sizes.quantize_or_resize)
    memory.cast_and_tile(pipe, options.memory, getattr(torch, options.model.dtype.value))


def _add_reference(
    stage: StageEstimate, called: dict[str, int], beside: dict[str, int], settings: memory.MemorySettings
) -> StageEstimate:
    """The stage with what the reference needs. beside: the components that it has for itself; called: in this stage."""
    largest = max(stage.largest, *called.values(), 0)
    # With model offload one component at a time is on the device, of one of both pipelines.
    more = largest - stage.largest if settings.offload is memory.Offload.model else sum(beside.values())
    return replace(stage, largest=largest, reference=more)


def _run_stages(
    plan: Plan,
    load: str,
    pipeline: Pipeline,
    components: dict[str, int],
    followed: _Followed,
    settings: memory.MemorySettings,
) -> Iterator[tuple[StageEstimate, set[str]]]:
    """Each stage that calls components, with their names; nothing is known of the reference."""
    values: dict[str, Any] = {SOURCE: plan.samples[0], load: pipeline}
    for name, node in plan.graph.nodes.items():
        if name == load:
            continue
        followed.called.clear()
        followed.allocations.restart()
        values[name] = _run_node(node, values)
        if followed.called:
            largest = max(components[component] for component in followed.called)
            weights = largest if settings.offload is memory.Offload.model else sum(components.values())
            activations = followed.allocations.peak
            stage = StageEstimate(name=name, weights=weights, activations=activations, largest=largest, reference=0)
            yield stage, set(followed.called)


def _run_node(node: Node, values: dict[str, Any]) -> Any:
    """Runs one stage; a denoising one once, for a full batch. RunError: it needs the numbers in its tensors."""
    inputs = {name: values[source] for name, source in node.inputs.items()}
    options = node.options
    if isinstance(options, DenoiseOptions):
        options = replace(options, warmup=0, repeats=1)
    try:
        return node.stage.function(options, **inputs)
    except (ConfigError, RunError):
        raise
    except RuntimeError as error:  # torch's, in the model's code, where numbers decide on a branch or on a shape
        why = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise RunError(
            f"stage '{node.name}': this model's code cannot be followed on shapes alone ({why}); the record of a run "
            "has the peak on its device"
        ) from error


def read_device_memory(device: str) -> int | None:
    """Bytes of memory that a device has in all; None where that is not known."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_properties(device).total_memory if torch.cuda.is_available() else None
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return None
