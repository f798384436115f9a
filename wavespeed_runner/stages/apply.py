"""Applies what the options of `load` say to a pipeline that is there: what changes its weights, then its modules.

In the order of `accelerate.order`. The stage `load` does it to what it has loaded, `wavespeed_runner.accelerate` to a
pipeline of the user's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..accelerate import adapters, attention, compilation, memory, quant, switches
from ..accelerate.compile_options import CompileOptions
from ..accelerate.parallel.apply import apply_parallel
from ..accelerate.parallel.apply import collect_evidence as collect_parallel_evidence
from ..accelerate.parallel.options import DataOptions, NoParallel
from ..artifacts import Pipeline
from ..config.schema import (
    AccelerateConfig,
    AdaptersConfig,
    AttentionConfig,
    CompileConfig,
    Init,
    MemoryConfig,
    ModelConfig,
    ParallelConfig,
    QuantConfig,
    top_level,
)
from ..models.family import Family
from ..models.weights.size import count_component_bytes

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


@dataclass(kw_only=True)
class LoadOptions:
    """Options of `load`."""

    model: ModelConfig = top_level("model")
    device: str = top_level("device")
    adapters: AdaptersConfig = top_level("adapters")
    quant: QuantConfig = top_level("quant")
    attention: AttentionConfig = top_level("attention")
    compile: CompileConfig = top_level("compile")
    accelerate: AccelerateConfig = top_level("accelerate")
    memory: MemoryConfig = top_level("memory")
    parallel: ParallelConfig = top_level("parallel")
    outputs: str = top_level("outputs")
    """Where quantized weights and compiled kernels are kept."""

    def __post_init__(self) -> None:
        """Drops `parallel=data`: its ranks do what one process does, and have the same store keys."""
        if isinstance(self.parallel, DataOptions):
            self.parallel = NoParallel()


def change_weights(pipe: DiffusionPipeline, family: Family, options: LoadOptions, device: str) -> DiffusionPipeline:
    """Applies what changes weights: adapters, switches, quantization.

    Args:
        pipe: in main memory, or on the device.
        family: of the model.
        options: what to apply.
        device: that will run it.

    Raises:
        RunError: an option does not take effect.
    """
    pipe = adapters.apply_adapters(pipe, options.adapters, stand_in=options.model.init is Init.tiny)
    pipe = switches.apply_switches(pipe, family, get_switches(options))
    return quant.apply_quant(pipe, family, options.quant, device)


def collect_weight_evidence(
    pipe: DiffusionPipeline, family: Family, options: LoadOptions, device: str, kept: dict[str, str]
) -> dict[str, Any]:
    """Evidence of what `change_weights` did, for the record's `engaged`. kept: what the store did for a component."""
    return {
        "adapters": adapters.collect_evidence(pipe, options.adapters),
        "quant": quant.collect_evidence(pipe, family, options.quant, device, kept),
    }


def change_modules(pipeline: Pipeline, options: LoadOptions, dtype: torch.dtype) -> None:
    """Applies what is set on modules, then moves the pipeline to its device; adds the evidence of it all.

    Args:
        pipeline: its weights are changed already.
        options: what to apply.
        dtype: in which the denoiser computes.

    Raises:
        RunError: an option does not take effect.
    """
    pipe, family = pipeline.pipe, pipeline.family
    attention.apply_attention(pipe, family, options.attention)
    pipeline.parallel = apply_parallel(pipe, family, options.parallel)
    if isinstance(options.compile, CompileOptions):
        pipeline.compiler = compilation.apply_compile(pipe, family, options.compile)
    pipeline.pipe = memory.apply_memory(pipe, get_memory(options), pipeline.device, dtype)
    pipeline.running = lambda: _set_up(options, pipeline)
    pipeline.engaged |= {
        "attention": attention.collect_evidence(pipe, options.attention),
        "compile": compilation.collect_evidence(pipeline.compiler, options.compile),
        "memory": memory.collect_evidence(pipe),
        "parallel": collect_parallel_evidence(pipe, family, options.parallel),
        "weights": count_component_bytes(pipe),
    }


@contextmanager
def _set_up(options: LoadOptions, pipeline: Pipeline) -> Iterator[None]:
    """Sets what of torch is process-wide while the pipeline computes."""
    import torch

    with ExitStack() as stack:
        stack.enter_context(attention.explain_attention_errors(options.attention))
        if pipeline.engaged["quant"] and get_memory(options).offload is not memory.Offload.none:
            # torch cannot move quantized weights between devices in inference mode.
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.no_grad())
        stack.enter_context(switches.use_switches(get_switches(options), pipeline.device))
        if isinstance(options.compile, CompileOptions):
            stack.enter_context(compilation.use_compiler(options.compile, options.outputs, pipeline.device))
        yield


def get_memory(options: LoadOptions) -> memory.MemorySettings:
    """The typed options of `memory`."""
    assert isinstance(options.memory, memory.MemorySettings)
    return options.memory


def get_switches(options: LoadOptions) -> switches.SwitchSettings:
    """The typed options of `accelerate`."""
    assert isinstance(options.accelerate, switches.SwitchSettings)
    return options.accelerate
