"""The compiler's monitor, on modules made to be compiled again, to break the graph and to fall back to eager code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.accelerate.compile_runs import make_options
from wavespeed_runner.accelerate.compilation import use_compiler
from wavespeed_runner.accelerate.compile_monitor import CompileEvents, CompileMonitor
from wavespeed_runner.errors import RunError


class Block(torch.nn.Module):
    def __init__(self, *, breaks: bool = False) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.breaks = breaks

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.linear(x)
        if self.breaks:
            torch._dynamo.graph_break()
        return x * 2


@pytest.fixture(autouse=True)
def clean_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def watch(block: Block, *sizes: int, folder: Path, **options: Any) -> tuple[list[CompileEvents], CompileMonitor]:
    """What happened in a call with each number of rows."""
    compiled = {"fullgraph": True, "dynamic": False, **options}
    block.forward = torch.compile(block.forward, backend="eager", **compiled)  # type: ignore[method-assign]
    monitor, seen = CompileMonitor({"block": [block]}), []
    with use_compiler(make_options(**compiled), str(folder), "cpu"):
        for size in sizes:
            with monitor.watch() as events:
                block(torch.ones(size, 4))
            seen.append(events)
    return seen, monitor


def test_a_recompilation_names_the_guard_that_failed(tmp_path: Path) -> None:
    (first, again, other), monitor = watch(Block(), 2, 2, 3, folder=tmp_path)
    assert (first.graphs, first.compiled, first.recompiles) == (1, ["Block"], []) and first.seconds > 0
    assert first.explain_void() == "compiled while it was timed: Block"
    assert again == CompileEvents() and again.explain_void() is None
    guard = "Block: tensor 'x' size mismatch at index 0. expected 2, actual 3"
    assert other.recompiles == [guard] and other.graphs == 1
    assert other.explain_void() == f"compiled again while it was timed, because a guard failed: {guard}"
    evidence = monitor.build_evidence()
    assert (evidence["graphs"], evidence["recompiles"], evidence["recompiles_why"]) == (2, 1, {guard: 1})
    assert evidence["seconds"] == pytest.approx(first.seconds + other.seconds, abs=0.001)


def test_graphs_of_another_pipeline_are_no_recompilation(tmp_path: Path) -> None:
    watch(Block(), 2, folder=tmp_path)
    (events,), monitor = watch(Block(), 3, folder=tmp_path)
    assert events.recompiles == [] and events.graphs == 1 and monitor.build_evidence()["shared_graphs"] == 1


def test_graph_breaks_are_counted_with_their_reason(tmp_path: Path) -> None:
    (events, again), monitor = watch(Block(breaks=True), 2, 2, folder=tmp_path, fullgraph=False)
    assert events.graphs == 2 and len(events.graph_breaks) == 1 and "graph_break()" in events.graph_breaks[0]
    assert "\n" not in events.graph_breaks[0] and not again.graph_breaks
    assert monitor.build_evidence()["graph_breaks"] == 1


def test_a_graph_break_in_a_full_graph_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"compile\.fullgraph=true: .*graph_break.*use compile\.fullgraph=false"):
        watch(Block(breaks=True), 2, folder=tmp_path)


def test_code_that_is_given_up_on_is_a_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch._dynamo import config

    from wavespeed_runner.accelerate import compilation

    monkeypatch.setattr(compilation, "GRAPHS_PER_CLASS", 1)
    with config.patch(recompile_limit=1):
        (_, events), monitor = watch(Block(), 2, 3, folder=tmp_path, fullgraph=False)
        assert len(events.fallbacks) == 1 and "recompile limit" in events.fallbacks[0].lower()
        assert "size mismatch at index 0. expected 2, actual 3" in events.fallbacks[0]
        assert str(events.explain_void()).startswith("fell back to eager code while it was timed")
        assert monitor.build_evidence()["fallbacks"] == 1
        torch._dynamo.reset()
        with pytest.raises(RunError, match=r"compile\.dynamic=False: more than 1 graphs .*use compile\.dynamic=true"):
            watch(Block(), 2, 3, folder=tmp_path)


def test_events_are_counted_also_when_a_generation_fails(tmp_path: Path) -> None:
    block = Block()
    block.forward = torch.compile(block.forward, backend="eager")  # type: ignore[method-assign]
    monitor = CompileMonitor({"block": [block]})
    with (
        pytest.raises(ValueError, match="x"),
        use_compiler(make_options(), str(tmp_path), "cpu"),
        monitor.watch() as events,
    ):
        block(torch.ones(2, 4))
        raise ValueError("x")
    assert events.graphs == monitor.total.graphs == 1


def test_many_compilations_are_all_counted(tmp_path: Path) -> None:
    """torch keeps only its last entries."""
    from torch._dynamo import utils

    kept = utils._compilation_metrics.maxlen
    utils.set_compilation_metrics_limit(2)
    try:
        events, _ = watch(Block(), 2, 3, 4, 5, folder=tmp_path)
        assert [one.compilations for one in events] == [1] * 4 and utils._compilation_metrics.maxlen == 2
    finally:
        utils.set_compilation_metrics_limit(kept)
