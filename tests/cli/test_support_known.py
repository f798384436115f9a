"""`support`: what is known to work with a model can be typed, and comes with its source."""

from __future__ import annotations

import re
from argparse import Namespace

import pytest

from wavespeed_runner.cli.support_check import Combinations
from wavespeed_runner.cli.support_known import describe_known
from wavespeed_runner.cli.support_table import table as support
from wavespeed_runner.report.published import read_published
from wavespeed_runner.sweeps.jobs import plan_jobs

ROW = re.compile(
    r"\| `(?P<model>\w+)` \| `(?P<setting>[^`]+)` \| (?P<published>[^|]+) \| <(?P<source>https://[^>]+)> \|"
)


@pytest.fixture(scope="module")
def table() -> str:
    return describe_known(
        Combinations(["flux", "wan21", "hunyuan_video", "qwen_image", "hidream", "hidream_fast", "demo", "sdxl"])
    )


def test_every_published_setting_can_be_planned_with_its_model(table: str) -> None:
    rows = [match.groupdict() for line in table.splitlines() if (match := ROW.fullmatch(line))]
    assert len(rows) >= 20 and {row["model"] for row in rows} == {
        *("flux", "wan21", "hunyuan_video", "qwen_image", "hidream")
    }, "hidream_fast's polynomial is of what is not watched here"
    for row in rows:
        overrides = [f"model={row['model']}", *row["setting"].split(), "prompt=x", "dry_run=true"]
        (job,) = plan_jobs(Namespace(overrides=overrides, config_dir=None, multirun=False))
        assert job.plan is not None, (row, job.skipped)


def test_known_figures_are_there(table: str) -> None:
    assert "| `flux` | `cache=teacache cache.rel_l1_thresh=0.6` | 2x | <https://github.com/ali-vilab/TeaCache/" in table
    assert (
        "`demo` has a calibration (demo (shipped))" in table and "`sampler=fitted` with 3, 4, 5, 6, 7, 8, 10" in table
    )
    assert "tune model=NAME" in table


def test_a_model_of_which_nothing_is_known_is_told() -> None:
    said = describe_known(Combinations(["sdxl"]))
    assert "None is published for these." in said
    assert "- `sdxl` as it is set in Comfy-WaveSpeed, LightDiffusion-Next, pruna: `support --coming-from`" in said


def test_first_block_cache_is_known_with_the_figures_of_the_published_times(table: str) -> None:
    """What `support --published` has of one GPU and a cache alone, `support flux` offers as something to type."""
    for row in read_published():
        if (match := re.fullmatch(r"First Block Cache ([\d.]+)", row.method)) and row.speedup and row.seconds:
            (line,) = (
                x for x in table.splitlines() if f"fbcache cache.residual_diff_threshold={float(match[1]):g}`" in x
            )
            there = re.search(r"\| ([\d.]+)x \(L20, 26.36 to ([\d.]+) s", line)
            assert there and float(there[1]) == pytest.approx(row.speedup, abs=0.02)
            assert float(there[2]) == row.seconds


def test_a_model_that_was_asked_for_has_what_is_known_of_it_first() -> None:
    """And no table of other models."""
    said = support(Combinations(["sdxl"]), named=True)
    heads = re.findall(r"^## (.*)", said, re.MULTILINE)
    assert heads[0] == "What is known to work" and heads.count(heads[0]) == 1 and "Accelerations in pairs" in heads
    assert "| pair |" not in said and "wan21" not in said and "`dry_run=true`" in said
