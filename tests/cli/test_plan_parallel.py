"""What a plan and the documentation say of the cost of context parallelism."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from wavespeed_runner.accelerate.parallel.links import LINKS
from wavespeed_runner.accelerate.parallel.options import Layout
from wavespeed_runner.cli.main import main
from wavespeed_runner.cli.plan_parallel import describe_ranks
from wavespeed_runner.cli.plan_text import plan_text
from wavespeed_runner.cli.support_parallel import describe_cost, list_layouts
from wavespeed_runner.config.paths import PACKAGE
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.planning.plan import Plan

Planned = Callable[..., Plan]


def read_lines(plan: Plan) -> list[str]:
    """The plan's lines about messages: the first, and those below it."""
    lines = plan_text(plan).splitlines()
    first = next((i for i, line in enumerate(lines) if line.startswith("messages ")), len(lines))
    return [line[11:] for line in lines[first : first + 3]]


def test_a_plan_says_what_is_sent_and_for_how_long(planned: Planned) -> None:
    """The tiny model: 6 layers of width 64, 32 x 32 pixels are 4 tokens, 20 of the prompt, float32."""
    counts, shares, assumed = read_lines(planned("parallel=ulysses", "parallel.degree=2"))
    megabytes = (6 * 4 * 12 * 64 // 2 + 2 * 64) * 4 / 1e6
    assert counts == (
        f"predicted for a step that is computed: 13 calls (all-to-all 12, gather 1), {megabytes:.1f} MB sent by a rank"
    )
    assert shares.startswith("share of its time, predicted for GPUs: NVLink 4 ") and all(
        link.name in shares for link in LINKS
    )
    assert "nodes of 8" not in shares and shares.count("%") == len(LINKS)
    assert assumed == (
        "assumed: 494 TFLOP/s a GPU (0.5 of an H100 SXM's bfloat16 peak), 10 us a call, sending while nothing is "
        "computed; 4 + 20 tokens, shapes of init=tiny"
    )


def test_guidance_batches_and_a_cache_that_measures_count(planned: Planned) -> None:
    given = ("parallel=ring", "parallel.degree=2", "guidance_scale=3", "batch_size=2", "cache=fbcache")
    counts = read_lines(planned(*given))[0]
    assert "22 calls (ring 12, gather 2, cache decision 8)" in counts
    assert "cache decision" not in read_lines(planned(*given[:-1], "cache=taylorseer"))[0], "its steps are a list"
    divided = read_lines(planned(*given, "parallel.cfg=true"))[0]
    assert "12 calls (ring 6, gather 1, cache decision 4, guidance branches 1)" in divided


def test_more_ranks_than_a_node_has_are_also_told_across_nodes(planned: Planned) -> None:
    degrees = ("parallel.ulysses_degree=4", "parallel.ring_degree=4", "limits.ranks=16")
    shares = read_lines(planned("parallel=unified", *degrees))[1]
    assert ", nodes of 8 " in shares


def test_of_models_that_are_not_known_nothing_is_predicted(planned: Planned) -> None:
    lines = read_lines(planned("model=hidream", "parallel=ulysses"))
    assert lines[0] == "not predicted: layers and tokens of model.name=hidream are not known here"


@pytest.mark.parametrize("parallel", ["none", "data"])
def test_ranks_that_share_no_image_send_nothing(planned: Planned, parallel: str) -> None:
    assert read_lines(planned(f"parallel={parallel}", "num_images_per_prompt=2")) == []


def test_predicting_imports_no_torch() -> None:
    given = ["model=flux", "parallel=unified", "dry_run=true"]
    code = (
        "import sys; from wavespeed_runner.cli.main import main; "
        f"assert main({given!r}) == 0; assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and "\nmessages " in done.stdout, done.stderr


def test_the_table_takes_unified_where_the_heads_do_not_divide() -> None:
    assert list_layouts(8, 24)[0] == ("`ulysses`", Layout(ulysses=8))
    assert list_layouts(16, 40)[0] == ("`unified` 8 x 2", Layout(ulysses=8, ring=2))
    assert list_layouts(64, 24) == [
        ("`unified` 8 x 8", Layout(ulysses=8, ring=8)),
        ("`ring`", Layout(ring=64)),
    ]


def test_the_docs_show_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    docs = (PACKAGE.parent / "docs" / "parallel.md").read_text(encoding="utf-8")
    shown = docs.partition("<!-- cost -->\n")[2].partition("\n<!-- end -->")[0]
    assert shown == describe_cost(), "paste what `python -m wavespeed_runner support --parallel` prints"
    assert main(["support", "--parallel"]) == 0
    assert capsys.readouterr().out == shown + "\n"


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("parallel=ulysses",), "ranks      2 processes, sharing this CPU: heads exchanged by 2"),
        (("parallel=unified",), "ranks      4 processes, sharing this CPU: in 2 parts of a ring, heads exchanged by 2"),
        (("parallel=data",), "ranks      2 processes, sharing this CPU: some of the batches each"),
    ],
)
def test_a_plan_says_how_many_processes_there_are(
    composed: Callable[..., dict[str, Any]], overrides: tuple[str, ...], line: str
) -> None:
    assert describe_ranks(resolve_config(composed(*overrides, "device=cpu"))) == [line]
    assert describe_ranks(resolve_config(composed())) == []
