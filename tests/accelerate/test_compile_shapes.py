"""Graphs with several shapes: each is warmed up, and compiled, before it is timed."""

from __future__ import annotations

import pytest

from tests.accelerate.compile_runs import Run, run

__all__ = ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", ["true", "false"])
def test_no_pass_of_a_graph_is_compiled_while_it_is_timed(run: Run, dynamic: str) -> None:
    """The second pass of `hires_fix` has a size of its own."""
    record = run("graph=hires_fix", f"compile.dynamic={dynamic}", "steps=3")
    assert record["status"] == "completed", record["error"]
    assert "void" not in record["timing"] and record["timing"]["compile_seconds"] > 0
    evidence = record["engaged"]["compile"]
    assert evidence["graph_breaks"] == evidence["fallbacks"] == 0
    passes = [engaged["compile"] for engaged in record["samples"][0]["engaged"].values()]
    assert len(passes) == 2 and evidence == passes[-1]
    # One graph of each class for all shapes, or others for the second shape. A third one is for the first single block.
    assert (evidence["graphs"] == 3) is (dynamic == "true")
