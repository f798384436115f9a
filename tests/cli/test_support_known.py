"""`support`: what is known to work with a model can be typed, and comes with its source."""

from __future__ import annotations

import re
from argparse import Namespace

import pytest

from wavespeed_runner.cli.support_check import Combinations
from wavespeed_runner.cli.support_known import describe_known
from wavespeed_runner.sweeps.jobs import plan_jobs

ROW = re.compile(
    r"\| `(?P<model>\w+)` \| `(?P<setting>[^`]+)` \| (?P<published>[^|]+) \| <(?P<source>https://[^>]+)> \|"
)


@pytest.fixture(scope="module")
def table() -> str:
    return describe_known(Combinations(["flux", "wan21", "hunyuan_video", "qwen_image", "demo", "sdxl"]))


def test_every_published_setting_can_be_planned_with_its_model(table: str) -> None:
    rows = [match.groupdict() for line in table.splitlines() if (match := ROW.fullmatch(line))]
    assert len(rows) >= 20 and {row["model"] for row in rows} == {"flux", "wan21", "hunyuan_video", "qwen_image"}
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
    assert "None is published for these." in describe_known(Combinations(["sdxl"]))
