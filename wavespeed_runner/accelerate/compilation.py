"""Compilation with torch.compile: the repeated blocks of a denoiser one by one, or whole modules.

A module's `forward` is replaced, not the module: hooks stay outside of the graphs. So a cache strategy, which decides
between blocks, and offloading work on compiled blocks as on others, with one graph for each class of block and shape.
Nothing is compiled before the first call.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from ..config.schema import CompileConfig
from ..errors import RunError, did_you_mean, format_error
from ..models.family import Family
from ..process.logging_setup import log_warnings
from .compile_cache import find_folder, use_folder
from .compile_monitor import CompileMonitor
from .compile_options import CompileOptions
from .compile_targets import count_classes, list_targets

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

GRAPHS_PER_CLASS, GRAPHS = 64, 1024
"""Most graphs of one class of module, and of all. torch's own limit of 8 is too low for a U-Net, whose resnets have a
dozen shapes, and for a sweep over sizes in one process."""
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes that replay CUDA graphs."""
KEPT_METRICS = 100_000
"""Most entries in torch's list of what it compiled; its own limit of 64 would drop those of a U-Net."""

_monitors: WeakSet[CompileMonitor] = WeakSet()
"""Of the compiled pipelines that are alive."""


def apply_compile(pipe: DiffusionPipeline, family: Family, options: CompileOptions) -> CompileMonitor:
    """Prepares modules of the pipeline for compilation, which happens in their first call.

    Returns:
        The monitor of what is compiled for this pipeline.

    Raises:
        RunError: the pipeline has nothing of what the options name, or torch knows no such backend or option.
    """
    import torch

    targets = list_targets(pipe, family, options)
    if not _monitors:
        # What earlier jobs of the process compiled would decide which shapes are taken for variable.
        torch.compiler.reset()
    backends = torch.compiler.list_backends(exclude_tags=())
    if options.backend not in backends:
        raise RunError(f"compile.backend={options.backend}: unknown{did_you_mean(options.backend, backends)}")
    for modules in targets.values():
        for module in modules:
            compiled = _compile(module.forward, options)
            module.forward = _keep_outputs(compiled) if options.mode in CUDA_GRAPHS else compiled
    monitor = CompileMonitor(targets)
    _monitors.add(monitor)
    return monitor


def _keep_outputs(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Copies the outputs of a compiled module, whose CUDA graph writes the next ones to the same memory.

    A pipeline with two guidance branches still has the first output when it calls the module for the second.
    https://docs.pytorch.org/docs/stable/torch.compiler_cudagraph_trees.html
    """
    import torch
    from torch.utils._pytree import tree_map_only

    @wraps(compiled)
    def forward(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()
        return tree_map_only(torch.Tensor, torch.clone, compiled(*args, **kwargs))

    return forward


def _compile(function: Any, options: CompileOptions) -> Any:
    import torch

    try:
        return torch.compile(
            function,
            backend=options.backend,
            # torch takes mode or options, never both (rule compile-mode-options).
            mode=None if options.mode == "default" else options.mode,
            options=options.options,
            fullgraph=options.fullgraph,
            dynamic=options.dynamic,
            disable=options.disable,
        )
    except RuntimeError as error:  # an option that the backend does not have
        raise RunError(
            f"compile.options={options.options}: {format_error(error)[:200]}; leave it out, or correct it"
        ) from None


@contextmanager
def use_compiler(options: CompileOptions, outputs: str, device: str) -> Iterator[None]:
    """Sets up the compiler while the pipeline computes: its cache, limits and counters; undone at the end.

    Raises:
        RunError: something could not be compiled.
    """
    if options.disable:
        yield
        return
    import torch._dynamo
    from torch._dynamo import config
    from torch._dynamo.utils import set_compilation_metrics_limit

    limits = {
        "recompile_limit": max(config.recompile_limit, GRAPHS_PER_CLASS),
        "accumulated_recompile_limit": max(config.accumulated_recompile_limit, GRAPHS),
    }
    kept = torch._dynamo.utils._compilation_metrics.maxlen or KEPT_METRICS
    with use_folder(find_folder(options, outputs, device)), config.patch(limits), log_warnings():
        set_compilation_metrics_limit(KEPT_METRICS)
        try:
            yield
        except (torch._dynamo.exc.TorchDynamoException, torch._dynamo.exc.FailOnRecompileLimitHit) as error:
            raise RunError(_explain(error, options)) from error
        finally:
            set_compilation_metrics_limit(kept)


def _explain(error: Exception, options: CompileOptions) -> str:
    """What could not be compiled, and the way out."""
    from torch._dynamo import exc

    reason = " ".join(str(error).partition("\n  Hint")[0].split())[:300]
    if isinstance(error, exc.FailOnRecompileLimitHit):
        return (
            f"compile.dynamic={options.dynamic}: more than {GRAPHS_PER_CLASS} graphs of one class of module in this "
            "process; use compile.dynamic=true, one graph for all shapes"
        )
    # A UserError is about code that depends on the values of tensors.
    if isinstance(error, exc.Unsupported | exc.UserError):
        return (
            f"compile.fullgraph=true: a module cannot be compiled as one graph: {reason}; use compile.fullgraph=false, "
            "compile.regional=true, or compile=none"
        )
    return (
        f"compile.backend={options.backend}: {type(error).__name__}: {reason}; try another backend or mode, or "
        "compile=none"
    )


def collect_evidence(monitor: CompileMonitor | None, options: CompileConfig) -> dict[str, Any] | None:
    """Evidence for the record's `engaged.compile` of what is to be compiled, and how. None without compilation.

    What became of it, `CompileMonitor.build_evidence`, is known after the first generation.
    """
    if monitor is None or not isinstance(options, CompileOptions):
        return None
    return {
        "modules": {name: count_classes(modules) for name, modules in monitor.targets.items()},
        "backend": options.backend,
        "mode": options.mode,
        "fullgraph": options.fullgraph,
        "dynamic": options.dynamic,
        **({"options": options.options} if options.options else {}),
        **({"disabled": True} if options.disable else {}),
    }
