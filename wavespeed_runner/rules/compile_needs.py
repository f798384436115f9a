"""Rules on what compilation needs: of its own options, and of the machine."""

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
from ..config.environment import has_cuda, resolve_device
from ..config.schema import Config
from ..errors import did_you_mean
from ..models.family import Family
from .rule import Rule

BACKENDS = (
    *("inductor", "eager", "eager_noexcept", "eager_debug", "pre_dispatch_eager", "invoke_subgraph", "cudagraphs"),
    *("aot_eager", "aot_eager_default_partitioner", "aot_eager_decomp_partition", "aot_ts", "ts", "openxla", "tvm"),
)
"""torch's own backends (torch 2.13); packages add others through entry points."""
WITHOUT_OPTIONS = frozenset(BACKENDS) - {"inductor", "openxla", "tvm"}
"""Backends that log options and drop them."""


def get_compile(c: Config) -> CompileOptions | None:
    """The options of compilation; None without it."""
    return c.compile if isinstance(c.compile, CompileOptions) else None


def if_compiling(condition: Callable[[CompileOptions, Config, Family], bool]) -> Callable[[Config, Family], bool]:
    """A condition for configurations that compile something; `disable` compiles nothing."""

    def applies(c: Config, f: Family) -> bool:
        options = get_compile(c)
        return options is not None and not options.disable and condition(options, c, f)

    return applies


def _is_inductor_on(o: CompileOptions, c: Config, kind: str) -> bool:
    return o.backend == "inductor" and resolve_device(c.device).startswith(kind)


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
        when=if_compiling(lambda o, c, f: o.backend not in _list_backends()),
        message=lambda c, f: (
            f"compile.backend={c.compile.backend}: unknown{did_you_mean(c.compile.backend, _list_backends())}"  # type: ignore[attr-defined]
        ),
        fix="compile.backend=inductor, or install the package that brings it",
        source="torch._dynamo.backends.registry",
    ),
    Rule(
        id="compile-mode-options",
        verdict="bad",
        when=if_compiling(lambda o, c, f: o.options is not None and o.mode != "default"),
        message="compile.mode={c.compile.mode} with compile.options: a mode is a set of options, and torch takes one "
        "of both",
        fix="compile.mode=default, or leave compile.options out",
        source="https://docs.pytorch.org/docs/stable/generated/torch.compile.html",
    ),
    Rule(
        id="compile-backend-mode",
        verdict="bad",
        when=if_compiling(
            lambda o, c, f: (
                (o.backend != "inductor" and o.mode != "default")
                or (o.backend in WITHOUT_OPTIONS and o.options is not None)
            )
        ),
        message="compile.backend={c.compile.backend}: compile.mode and compile.options are inductor's, and could not "
        "take effect",
        fix="leave them out, or compile.backend=inductor",
        source="torch._dynamo.backends.debugging (torch 2.13)",
    ),
    Rule(
        id="compile-compiler",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _is_inductor_on(o, c, "cpu") and not has_compiler()),
        message=lambda c, f: (
            f"compile.backend=inductor on a CPU needs a C++ compiler, and there is no {find_compiler()}"
        ),
        fix=lambda c, f: _name_compiler_fix(),
        source="torch._inductor.cpp_builder.get_cpp_compiler",
    ),
    Rule(
        id="compile-headers",
        verdict="bad",
        when=if_compiling(lambda o, c, f: _is_inductor_on(o, c, "cpu") and has_compiler() and not has_headers()),
        message=lambda c, f: (
            f"compile.backend=inductor needs Python's headers, and there is no {sysconfig.get_path('include')}/Python.h"
        ),
        fix="install them (Debian and Ubuntu: apt install python3-dev), or compile=none",
        source="torch._inductor.cpp_builder",
    ),
    Rule(
        id="compile-triton",
        verdict="bad",
        # Planning for another machine, what is installed here says nothing (rule device-elsewhere).
        when=if_compiling(lambda o, c, f: _is_inductor_on(o, c, "cuda") and has_cuda() and not has_triton()),
        message="compile.backend=inductor on {c.device} needs triton, which is not installed",
        fix="install the torch for this device, which brings it; or compile=none",
        source="torch._inductor.scheduler",
    ),
    Rule(
        id="compile-mps",
        verdict="unverified",
        when=if_compiling(lambda o, c, f: _is_inductor_on(o, c, "mps")),
        message="compile.backend=inductor on mps: torch calls its code for it an early prototype",
        fix="compile=none, or device=cpu",
        source="torch._inductor.codegen.mps (torch 2.13)",
    ),
    Rule(
        id="compile-warmup",
        verdict="bad",
        # What is timed is denoising; where the pipeline is one call, all of it.
        when=if_compiling(
            lambda o, c, f: c.measure.warmup == 0 and (CompileTarget.denoiser in o.target or f.single_call)
        ),
        message="measure.warmup=0 with compilation: compiling would be timed",
        fix="measure.warmup=1 (measure=default)",
        source="tests/accelerate/test_compile_void.py",
    ),
    Rule(
        id="compile-disabled",
        verdict="unverified",
        when=lambda c, f: bool((options := get_compile(c)) and options.disable),
        message="compile.disable=true: everything runs eagerly",
        fix="compile.disable=false",
    ),
)
