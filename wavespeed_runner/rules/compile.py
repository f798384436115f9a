"""Rules on compilation: what it needs of the machine, and what it cannot be combined with."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from ..accelerate.compile_options import CompileOptions, CompileTarget
from ..accelerate.memory import GroupType, MemorySettings, Offload
from ..caching.attach.diffusers_options import DiffusersHookOptions
from ..config.environment import resolve_device
from ..config.schema import Config
from ..errors import did_you_mean
from ..models.family import Family
from .cache import is_cached, uses_engine
from .rule import Rule

CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes that replay CUDA graphs."""
BACKENDS = (
    *("inductor", "eager", "eager_noexcept", "eager_debug", "pre_dispatch_eager", "invoke_subgraph", "cudagraphs"),
    *("aot_eager", "aot_eager_default_partitioner", "aot_eager_decomp_partition", "aot_ts", "ts", "openxla", "tvm"),
)
"""torch's own backends (torch 2.13); packages add others through entry points."""
WITHOUT_OPTIONS = ("eager", "aot_eager", "cudagraphs")
"""Backends that ignore all options."""

BREAKING = {
    CompileTarget.denoiser: ("hidream",),
    CompileTarget.vae: ("hunyuan_video15", "hunyuan_video15_i2v"),
    CompileTarget.text_encoders: (
        *("flux2", "flux2_klein", "hidream", "hunyuan_video", "hunyuan_video_i2v", "hunyuan_video15"),
        *("hunyuan_video15_i2v", "ltx2", "lumina2", "qwen_image", "sd3", "sdxl", "z_image"),
    ),
}
"""What of which families cannot be one graph: experts chosen by the tokens, a mask that is read, and transformers' way of
handing out hidden states."""


def _get(c: Config) -> CompileOptions | None:
    return c.compile if isinstance(c.compile, CompileOptions) else None


def _if(condition: Callable[[CompileOptions, Config, Family], bool]) -> Callable[[Config, Family], bool]:
    """A condition for configurations that compile something; `disable` compiles nothing."""

    def applies(c: Config, f: Family) -> bool:
        options = _get(c)
        return options is not None and not options.disable and condition(options, c, f)

    return applies


def _get_memory(c: Config) -> MemorySettings:
    assert isinstance(c.memory, MemorySettings)
    return c.memory


def _compiles_denoiser(o: CompileOptions) -> bool:
    return CompileTarget.denoiser in o.target


def _is_whole(o: CompileOptions) -> bool:
    """True if the denoiser becomes one graph, its blocks included."""
    return _compiles_denoiser(o) and not o.regional


def _uses_cuda_graphs(o: CompileOptions) -> bool:
    return o.backend == "cudagraphs" or (o.backend == "inductor" and o.mode in CUDA_GRAPHS)


def _is_inductor_on(o: CompileOptions, c: Config, kind: str) -> bool:
    return o.backend == "inductor" and resolve_device(c.device).startswith(kind)


def _offloads_in_groups(c: Config) -> bool:
    return _get_memory(c).offload is Offload.group


def _list_breaking(o: CompileOptions, c: Config) -> list[str]:
    """The targets that break the graph in this family."""
    return [target.value for target in o.target if c.model.name in BREAKING[target]]


def _list_backends() -> list[str]:
    return sorted({*BACKENDS, *(point.name for point in entry_points(group="torch_dynamo_backends"))})


def find_compiler() -> str:
    """The C++ compiler that torch would call; it looks for no other one. `CXX` decides, as in torch's own code."""
    return os.environ.get("CXX") or {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")


def has_compiler() -> bool:
    """True if that compiler is installed."""
    return which(find_compiler()) is not None


def _name_compiler_fix() -> str:
    other = next((name for name in ("g++", "clang++") if name != find_compiler() and which(name)), "")
    install = "install it (Debian and Ubuntu: apt install g++)"
    return f"CXX={other} in the environment, or {install}" if other else f"{install}, or compile=none"


@lru_cache(maxsize=1)
def has_headers() -> bool:
    """True if Python's headers are installed, which compiled kernels include."""
    return (Path(sysconfig.get_path("include")) / "Python.h").exists()


@lru_cache(maxsize=1)
def has_triton() -> bool:
    """True if the package is installed that makes kernels for GPUs."""
    return find_spec("triton") is not None


NEEDS: tuple[Rule, ...] = (
    Rule(
        id="compile-backend",
        verdict="bad",
        when=_if(lambda o, c, f: o.backend not in _list_backends()),
        message=lambda c, f: (
            f"compile.backend={c.compile.backend}: unknown{did_you_mean(c.compile.backend, _list_backends())}"  # type: ignore[attr-defined]
        ),
        fix="compile.backend=inductor, or install the package that brings it",
        source="torch._dynamo.backends.registry",
    ),
    Rule(
        id="compile-mode-options",
        verdict="bad",
        when=_if(lambda o, c, f: o.options is not None and o.mode != "default"),
        message="compile.mode={c.compile.mode} with compile.options: a mode is a set of options, and torch takes one of "
        "both",
        fix="compile.mode=default, or leave compile.options out",
        source="https://docs.pytorch.org/docs/stable/generated/torch.compile.html",
    ),
    Rule(
        id="compile-backend-mode",
        verdict="bad",
        when=_if(
            lambda o, c, f: (
                (o.backend != "inductor" and o.mode != "default")
                or (o.backend in WITHOUT_OPTIONS and o.options is not None)
            )
        ),
        message="compile.backend={c.compile.backend}: compile.mode and compile.options are inductor's, and could not "
        "take effect",
        fix="leave them out, or compile.backend=inductor",
        source="torch._dynamo.backends.debugging, which logs and drops them (torch 2.13)",
    ),
    Rule(
        id="compile-compiler",
        verdict="bad",
        when=_if(lambda o, c, f: _is_inductor_on(o, c, "cpu") and not has_compiler()),
        message=lambda c, f: f"compile.backend=inductor on a CPU needs a C++ compiler, and there is no {find_compiler()}",
        fix=lambda c, f: _name_compiler_fix(),
        source="torch._inductor.cpp_builder.get_cpp_compiler",
    ),
    Rule(
        id="compile-headers",
        verdict="bad",
        when=_if(lambda o, c, f: _is_inductor_on(o, c, "cpu") and has_compiler() and not has_headers()),
        message=lambda c, f: (
            f"compile.backend=inductor needs Python's headers, and there is no {sysconfig.get_path('include')}/Python.h"
        ),
        fix="install them (Debian and Ubuntu: apt install python3-dev), or compile=none",
        source="torch._inductor.cpp_builder",
    ),
    Rule(
        id="compile-triton",
        verdict="bad",
        when=_if(lambda o, c, f: _is_inductor_on(o, c, "cuda") and not has_triton()),
        message="compile.backend=inductor on {c.device} needs triton, which is not installed",
        fix="install the torch for this device, which brings it; or compile=none",
        source="torch._inductor.scheduler",
    ),
    Rule(
        id="compile-mps",
        verdict="unverified",
        when=_if(lambda o, c, f: _is_inductor_on(o, c, "mps")),
        message="compile.backend=inductor on mps: torch calls its code for it an early prototype",
        fix="compile=none, or device=cpu",
        source="torch._inductor.codegen.mps (torch 2.13)",
    ),
    Rule(
        id="compile-warmup",
        verdict="bad",
        when=_if(lambda o, c, f: c.measure.warmup == 0),
        message="measure.warmup=0 with compile={c.compile.name}: compiling would be timed",
        fix="measure.warmup=1 (measure=default)",
        source="tests/accelerate/test_compile_void.py",
    ),
    Rule(
        id="compile-disabled",
        verdict="unverified",
        when=lambda c, f: bool((options := _get(c)) and options.disable),
        message="compile.disable=true: everything runs eagerly",
        fix="compile.disable=false",
    ),
)

FITS: tuple[Rule, ...] = (
    Rule(
        id="compile-cuda-graphs-device",
        verdict="bad",
        when=_if(lambda o, c, f: _uses_cuda_graphs(o) and not resolve_device(c.device).startswith("cuda")),
        message="compile.mode={c.compile.mode}, compile.backend={c.compile.backend}: CUDA graphs exist on CUDA alone, so "
        "they could not take effect on device={c.device}",
        fix="compile=max_autotune_no_cudagraphs, compile=default or compile=regional",
        source="torch._inductor.cudagraph_trees (torch 2.13)",
    ),
    Rule(
        id="compile-cuda-graphs-cache",
        verdict="bad",
        when=_if(lambda o, c, f: _uses_cuda_graphs(o) and is_cached(c)),
        message="compile.mode={c.compile.mode} with cache={c.cache.name}: a CUDA graph writes its outputs to the same "
        "memory at every replay, and a cache keeps them from step to step",
        fix="compile=regional, or compile.mode=max-autotune-no-cudagraphs compile.regional=true",
        source="https://docs.pytorch.org/docs/stable/torch.compiler_cudagraph_trees.html",
    ),
    Rule(
        id="compile-cuda-graphs-regional",
        verdict="unverified",
        when=_if(lambda o, c, f: _uses_cuda_graphs(o) and o.regional),
        message="compile.mode={c.compile.mode} with compile.regional=true: all blocks of a class share one compiled graph, "
        "but a CUDA graph holds addresses of weights, so one is recorded for each block",
        fix="compile=reduce_overhead for the whole denoiser, or compile=regional without CUDA graphs",
        source="torch._inductor.cudagraph_trees (torch 2.13)",
    ),
    Rule(
        id="compile-cuda-graphs-dynamic",
        verdict="unverified",
        when=_if(lambda o, c, f: _uses_cuda_graphs(o) and o.dynamic is True),
        message="compile.mode={c.compile.mode} with compile.dynamic=true: a CUDA graph has fixed shapes, so one is recorded "
        "for each shape",
        fix="compile.dynamic=false, or a mode without CUDA graphs",
        source="torch._inductor.config, triton.cudagraph_skip_dynamic_graphs (torch 2.13)",
    ),
    Rule(
        id="compile-hooks",
        verdict="bad",
        when=_if(lambda o, c, f: _compiles_denoiser(o) and isinstance(c.cache, DiffusersHookOptions)),
        message="cache={c.cache.name} hooks attention inside of the compiled blocks: diffusers' hooks break the graph, and "
        "are compiled again in every generation",
        fix="compile=none, or a strategy that decides between blocks (cache=fbcache)",
        source="tests/accelerate/test_compile_refused.py",
    ),
    Rule(
        id="compile-whole-cache",
        verdict="bad",
        when=_if(lambda o, c, f: _is_whole(o) and uses_engine(c)),
        message="cache={c.cache.name} decides between the blocks of the denoiser, and compile.regional=false makes one "
        "graph of them: decisions would be compiled, again in every generation",
        fix="compile.regional=true",
        source="tests/accelerate/test_compile_refused.py",
    ),
    Rule(
        id="compile-group-offload",
        verdict="bad",
        when=_if(
            lambda o, c, f: (
                _offloads_in_groups(c)
                and (_is_whole(o) or _get_memory(c).group_type is GroupType.leaf_level or len(o.target) > 1)
            )
        ),
        message="memory.offload=group fetches weights through hooks that break the graph where they are inside of it; they "
        "are around single blocks only with memory.group_type=block_level, and only the denoiser's blocks are compiled "
        "one by one then",
        fix="compile.regional=true memory.group_type=block_level compile.target=[denoiser]",
        source="tests/accelerate/test_compile_refused.py, tests/accelerate/test_order.py",
    ),
    Rule(
        id="compile-casting",
        verdict="bad",
        when=_if(lambda o, c, f: _compiles_denoiser(o) and _get_memory(c).layerwise_casting is not None),
        message="memory.layerwise_casting casts weights through hooks on every layer, inside of the compiled blocks, which "
        "break the graph",
        fix="memory=none, or quant=fp8_wo, which keeps 8-bit weights inside of the graph",
        source="tests/accelerate/test_compile_refused.py",
    ),
    Rule(
        id="compile-breaks",
        verdict="bad",
        when=_if(lambda o, c, f: o.fullgraph and bool(_list_breaking(o, c))),
        message=lambda c, f: (
            f"compile.fullgraph=true: of this model, {' and '.join(_list_breaking(c.compile, c))} cannot be compiled as "  # type: ignore[arg-type]
            "one graph"
        ),
        fix="compile.fullgraph=false, or leave it out of compile.target",
        source="tests/accelerate/test_compile_refused.py, tests/accelerate/test_compile_families.py",
    ),
    Rule(
        id="compile-vae-tiling",
        verdict="unverified",
        when=_if(lambda o, c, f: CompileTarget.vae in o.target and _get_memory(c).vae_tiling),
        message="memory.vae_tiling=true with compile.target=vae: tiles at the edges have other shapes, and each shape is "
        "compiled",
        fix="compile.dynamic=true",
    ),
    Rule(
        id="compile-static-shapes",
        verdict="unverified",
        when=_if(lambda o, c, f: o.dynamic is False and _denoises_twice(c)),
        message="compile.dynamic=false: the passes of this graph may have several shapes, and each is compiled for itself, in "
        "a warm-up of its own",
        fix="compile.dynamic=true, one graph for all shapes",
        source="tests/accelerate/test_compile_shapes.py",
    ),
)

COMPILING = (*NEEDS, *FITS)


def _denoises_twice(c: Config) -> bool:
    return sum(stage.stage == "denoise" for stage in c.graph.stages.values()) > 1
