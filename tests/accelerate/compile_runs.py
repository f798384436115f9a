"""For the tests of compilation: runs of tiny models with compiled modules, and pipelines with compiled modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import run_as_data
from wavespeed_runner.accelerate.compilation import apply_compile, use_compiler
from wavespeed_runner.accelerate.compile_options import CompileOptions
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.rules import check

QUICK = ("compile=regional", "compile.backend=eager", "measure=default", "measure.reference=false")
"""Everything but the making of kernels: graphs, guards and hooks are as with any backend."""
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def run(composed: Callable[..., dict[str, Any]], tmp_path: Path) -> Iterator[Run]:
    """`run(*overrides)`: the record of a run with `QUICK`, or what is given as `quick`; the compiler begins with
    nothing."""
    torch._dynamo.reset()

    def run_plan(*overrides: str, quick: tuple[str, ...] = QUICK) -> dict[str, Any]:
        number = len(list(tmp_path.glob("run*")))
        data = composed(*quick, *overrides)
        # A store of its own, so that everything is computed.
        plan = build_plan({**data, "outputs": str(tmp_path / f"outputs{number}")})
        return run_as_data(plan, tmp_path / f"run{number}", list(overrides))

    yield run_plan
    torch._dynamo.reset()


@pytest.fixture
def without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans what the rules on compilation refuse, to see what would happen."""
    monkeypatch.setattr(check, "RULES", tuple(rule for rule in check.RULES if not rule.id.startswith("compile-")))


def make_options(**values: Any) -> CompileOptions:
    return CompileOptions(**{"regional": True, "backend": "eager", **values})


@contextmanager
def compiled(pipe: Any, family: Any, folder: Path, **values: Any) -> Iterator[Any]:
    """The monitor of a pipeline whose modules are compiled while the context is open."""
    options = make_options(**values)
    monitor = apply_compile(pipe, family, options)
    try:
        with use_compiler(options, str(folder), "cpu"):
            yield monitor
    finally:
        for modules in monitor.targets.values():
            for module in modules:
                vars(module).pop("forward", None)
        torch._dynamo.reset()
