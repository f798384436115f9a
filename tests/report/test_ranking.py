"""What a report praises: only what was faster than the reference by its own doing, on a machine that is not always
equally fast."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.report.records import evidence, varied, write_job
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.figure_styles import COLOURS
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.page.data import page_data
from wavespeed_runner.report.page.images import Album
from wavespeed_runner.report.ranking import is_nothing_faster, time_factors
from wavespeed_runner.report.remarks import NOTHING_FASTER, SCALED
from wavespeed_runner.report.rows import Row

Finished = tuple[Path, dict[str, Any]]
Write = Callable[..., None]
MODULES = evidence(strategy="pab", modules=4, calls=100, hits=40, module_share=0.6)


@pytest.fixture
def write(tmp_path: Path, finished: Finished) -> Write:
    """`write(job, seconds, reference, ssim)`: the record of a job that was timed beside a reference of its own."""

    def one(job: str, seconds: float, reference: float, ssim: float, **more: Any) -> None:
        overrides = more.pop("overrides", ["cache=fbcache", f"seed={job}"])
        timing, config = more.pop("timing", {}), more.pop("config", {})
        engaged = more.pop("engaged", None)
        made = varied(finished[1], overrides, seconds=seconds, ssim=ssim, **more)
        made["timing"] |= {"reference_median": reference, "speedup": reference / seconds, **timing}
        made["config"] |= config
        if engaged is not None:
            made["engaged"]["cache"] = engaged
        write_job(tmp_path / job, made)

    return one


def rows_of(folder: Path) -> dict[str, Row]:
    return {row.job: row for row in collect(folder).rows}


def on_front(folder: Path) -> list[str]:
    return [row.job for row in collect(folder).rows if row.front]


def shown(folder: Path) -> dict[str, Any]:
    return page_data(collect(folder), Album(side=8, lossless=True), 0, folder)


def test_a_slow_machine_takes_nobody_off_the_front(tmp_path: Path, write: Write) -> None:
    for job, figures in {"a": (1.5, 2.0, 0.99), "b": (1.05, 1.0, 0.98), "c": (1.02, 1.0, 0.97)}.items():
        write(job, *figures)
    sweep = collect(tmp_path)
    assert on_front(tmp_path) == ["a"], "its reference took 2 s"
    assert not is_nothing_faster(sweep.rows) and NOTHING_FASTER not in report_md(sweep) + page(sweep)


def test_the_front_goes_by_the_speedup(tmp_path: Path, write: Write) -> None:
    for job, figures in {"a": (1.5, 3.0, 0.99), "b": (1.2, 1.25, 0.99), "c": (1.2, 1.25, 0.5)}.items():
        write(job, *figures)
    assert on_front(tmp_path) == ["a"], "twice as fast, if on a slow day"
    data = shown(tmp_path)
    assert [job["fronts"]["seconds"] for job in data["jobs"]][1:] == [[], []]
    assert "ssim" in data["jobs"][0]["fronts"]["seconds"]


def test_plots_show_the_times_that_the_front_goes_by(tmp_path: Path, write: Write) -> None:
    for job, figures in {"a": (1.5, 3.0, 0.99), "b": (1.2, 1.25, 0.95), "c": (0.5, 1.0, 0.5)}.items():
        write(job, *figures)
    expected = [0.625, 1.2, 0.625]  # beside the reference of 1.25 s
    data, sweep = shown(tmp_path), collect(tmp_path)
    assert data["paced"] and [job["seconds"][0] for job in data["jobs"]] == pytest.approx(expected)
    assert {job["reference"]["shown"] for job in data["jobs"]} == {1.25}
    assert [job["text"]["time"] for job in data["jobs"]] == ["1.50 s", "1.20 s", "0.500 s"], "as measured"
    time = figure(sweep).axes[0]
    (points,) = [line for line in time.lines if line.get_marker() == "o" and line.get_color() == COLOURS[0]]
    (star,) = [line for line in time.lines if line.get_marker() == "*"]
    assert list(points.get_xdata()) == pytest.approx(expected) and list(star.get_xdata()) == [1.25]
    assert "scaled to the median reference" in time.get_xlabel()
    assert SCALED in page(sweep) and SCALED in report_md(sweep)


def test_one_of_another_run_leaves_all_times_as_measured(tmp_path: Path, write: Write) -> None:
    write("a", 1.5, 2.0, 0.99)
    write("b", 1.05, 1.0, 0.98)
    write("c", 1.1, 1.0, 0.97, timing={"same_run": False})
    sweep, data = collect(tmp_path), shown(tmp_path)
    assert time_factors(sweep.rows) == [1, 1, 1] and not data["paced"]
    assert [job["seconds"][0] for job in data["jobs"]] == [1.5, 1.05, 1.1]
    assert "scaled" not in figure(sweep).axes[0].get_xlabel() and SCALED not in page(sweep) + report_md(sweep)
    assert on_front(tmp_path) == [], "beside the reference that the plot shows it is slower"
    assert not is_nothing_faster(sweep.rows) and NOTHING_FASTER not in page(sweep) + report_md(sweep)
    write("a", 2.0, 2.0, 0.99)
    assert is_nothing_faster(collect(tmp_path).rows)


def test_what_takes_longer_by_its_own_options_is_not_evened_out(tmp_path: Path, write: Write) -> None:
    """A reference in batches, or with offloading, has another time on any day."""
    write("a", 2.0, 4.0, 0.99, config={"batch_size": 2})
    write("b", 1.5, 2.0, 0.99)
    sweep = collect(tmp_path)
    assert len({row.compared_with for row in sweep.rows}) == 1 and time_factors(sweep.rows) == [1, 1]
    assert on_front(tmp_path) == ["b"]


def test_a_cache_that_never_hit_is_not_praised(tmp_path: Path, write: Write) -> None:
    write("fewer", 1.0, 2.0, 0.8, share=None, rival=True, steps=14, overrides=["cache=none"])
    write("hit", 1.5, 2.0, 0.95)
    write("never", 1.9, 2.0, 1.0, share=1.0)
    rows = rows_of(tmp_path)
    assert rows["never"].never_hit and rows["never"].same_work and not rows["hit"].same_work
    assert on_front(tmp_path) == ["fewer", "hit"]
    assert rows["never"].beaten_by_fewer_steps is True and rows["hit"].beaten_by_fewer_steps is False
    fronts = {job["job"]: job["fronts"] for job in shown(tmp_path)["jobs"]}
    assert (
        fronts["never"] == {"seconds": [], "share": [], "peak": [], "weights": []}
        and "ssim" in fronts["hit"]["seconds"]
    )


@pytest.mark.parametrize(
    "more",
    [
        {"config": {"memory": {"name": "x", "layerwise_casting": "float8_e4m3fn"}}},
        {"steps": 14},
    ],
)
def test_beside_a_cache_that_never_hit_something_else_may_save_time(
    tmp_path: Path, write: Write, more: dict[str, Any]
) -> None:
    write("never", 1.4, 2.0, 0.98, share=1.0, **more)
    row = rows_of(tmp_path)["never"]
    assert row.never_hit and not row.same_work and row.front


@pytest.mark.parametrize("hits", [40, 0])
def test_what_skips_attention_inside_of_steps_has_no_share(tmp_path: Path, write: Write, hits: int) -> None:
    """Every step is one that was computed, and much of it was not."""
    write("pab", 1.5, 2.0, 0.95, engaged={**MODULES, "hits": hits})
    (row,) = (sweep := collect(tmp_path)).rows
    assert row.computed_share is None and row.never_hit == (hits == 0) == row.same_work and row.front == (hits > 0)
    (told,) = csv.DictReader(StringIO(results_csv(sweep)))
    assert told["computed_share"] == "" and told["speedup"]
    assert "100 %" not in report_md(sweep) and "100 %" not in page(sweep).partition('<script type="app')[0]
    assert shown(tmp_path)["jobs"][0]["share"] is None
    time, share = figure(sweep).axes
    assert [text.get_text() for text in share.texts] == ["not known"]
    assert not [line for line in share.lines if line.get_marker() in "o*"], "no reference with nothing to compare"
    assert [line for line in time.lines if line.get_marker() == "*"]


def test_the_sentences_of_a_report_are_light() -> None:
    """A sweep's console says one of them before there is anything to report."""
    program = (
        "import sys, wavespeed_runner.report.remarks; "
        "sys.exit(any(name in sys.modules for name in ('wavespeed_runner.report.collect', 'torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
