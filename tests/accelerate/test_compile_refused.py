"""What the rules on compilation refuse, shown to fail or to be compiled again and again where it is planned anyway."""

from __future__ import annotations

import pytest

from tests.accelerate.compile_runs import Run, run, without_rules

__all__ = ["run", "without_rules"]
pytestmark = [pytest.mark.usefixtures("without_rules"), pytest.mark.slow]
LENIENT = "compile.fullgraph=false"


@pytest.mark.parametrize(
    "settings",
    [
        ("cache=pab",),
        ("cache=fastercache", "steps=12"),
        ("compile=default", "cache=fbcache"),
        ("compile=default", "memory=group_offload"),
        ("memory=group_offload", "memory.group_type=leaf_level"),
        ("memory=layerwise_casting",),
    ],
    ids=" ".join,
)
def test_the_graph_breaks(run: Run, settings: tuple[str, ...]) -> None:
    record = run("steps=4", *settings)
    assert record["status"] == "failed" and record["error"]["type"] == "RunError"
    assert "compile.fullgraph=true: a module cannot be compiled as one graph" in record["error"]["message"]
    assert "use compile.fullgraph=false" in record["error"]["message"]


def test_with_breaks_every_generation_compiles_again(run: Run) -> None:
    record = run("steps=2", LENIENT, "cache=pab")
    assert record["status"] == "completed", record["error"]
    assert record["engaged"]["compile"]["graph_breaks"] > 0 and "guard" in record["timing"]["void"]


def test_with_breaks_little_is_left_to_compile(run: Run) -> None:
    record = run(LENIENT, "memory=layerwise_casting", "steps=2")
    assert record["status"] == "completed", record["error"]
    assert record["engaged"]["compile"]["graph_breaks"] > 20


def test_experts_chosen_by_the_tokens_break_the_graph(run: Run) -> None:
    """HiDream's blocks send each token to some of several experts: how many tokens each gets is data."""
    record = run("model=hidream", "width=null", "height=null", "steps=2")
    assert record["status"] == "failed" and "compile.fullgraph=true" in record["error"]["message"]


@pytest.mark.parametrize("target", ["text_encoders", "vae"])
def test_modules_of_families_that_break_the_graph(run: Run, target: str) -> None:
    record = run("model=hunyuan_video15", "width=null", "height=null", "steps=2", f"compile.target=[{target}]")
    assert record["status"] == "failed" and "compile.fullgraph=true" in record["error"]["message"]
