"""Comparison with fewer steps and with the reference: rivals, the Pareto front, and comparable jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.records import by_job, by_label, study, varied, write_job
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.remarks import NOTHING_FASTER

Finished = tuple[Path, dict[str, Any]]


KEY = "cache.residual_diff_threshold"


def test_every_setting_has_to_beat_fewer_steps(tmp_path: Path, record: dict[str, Any]) -> None:
    rows = by_label(study(tmp_path, record))
    rivals = [rows[f"{steps} steps"] for steps in (7, 14, 21)]
    assert all(row.rival and row.beaten_by_fewer_steps is None for row in rivals)
    assert [row.computed_share for row in rivals] == [0.25, 0.5, 0.75], "of the work of 28 steps"
    # 0.1 s more than its share of the work: at 0.5 of the work 14 steps have 0.6995, and 0.01 has 0.9795.
    assert rows["0.01"].beaten_by_fewer_steps is False and rows["0.01"].front
    # Where a rival, between two that were run, is better.
    worse = varied(record, ["cache=fbcache", f"{KEY}=0.6"], seconds=0.1 + 17 / 28, ssim=0.5 + 16.9 / 70)
    better = varied(record, ["cache=fbcache", f"{KEY}=0.7"], seconds=0.1 + 17 / 28, ssim=0.5 + 17.1 / 70)
    for name, made in (("worse", worse), ("better", better)):
        write_job(tmp_path / "other" / name, made)
    for steps in (7, 14, 21):
        rival = tmp_path / rows[f"{steps} steps"].job / "record.json"
        write_job(tmp_path / "other" / f"r{steps}", json.loads(rival.read_text()))
    again = by_label(tmp_path / "other")
    assert again["0.6"].beaten_by_fewer_steps is True and again["0.7"].beaten_by_fewer_steps is False


def rivalry(
    folder: Path, record: dict[str, Any], *jobs: tuple[str, dict[str, Any]], steps: tuple[int, ...] = (7, 14)
) -> None:
    """Rivals with 0.1 s more than their share of the 2 s of 28 steps, and settings."""
    for count in steps:
        figures: dict[str, Any] = {"seconds": count / 14, "ssim": 0.5 + count / 70, "steps": count, "rival": True}
        write_job(folder / f"r{count}", varied(record, ["cache=none", f"steps={count}"], **figures))
    for value, figures in jobs:
        write_job(folder / value, varied(record, ["cache=fbcache", f"{KEY}={value}"], **figures))


def test_the_line_of_the_rivals_ends_at_the_reference(tmp_path: Path, record: dict[str, Any]) -> None:
    slower = ("0", {"seconds": 2.1, "ssim": 0.9999})
    # Half way from 14 steps (1 s, 0.6995) to the reference (2 s, 1) fewer steps reach 0.85.
    above, below = ("0.1", {"seconds": 1.5, "ssim": 0.86}), ("0.2", {"seconds": 1.5, "ssim": 0.84})
    rivalry(tmp_path, record, slower, above, below)
    rows = by_job(tmp_path)
    assert [rows[name].beaten_by_fewer_steps for name in ("0", "0.1", "0.2")] == [True, False, True]
    assert all(rows[name].judged_same_run and rows[name].reference_seconds == 2.0 for name in ("0", "0.1", "0.2"))


def test_times_are_relative_to_the_reference_of_the_same_run(tmp_path: Path, record: dict[str, Any]) -> None:
    rivalry(tmp_path, record, ("0.1", {"seconds": 1.2, "ssim": 0.65}))
    path = tmp_path / "0.1" / "record.json"
    made = json.loads(path.read_text())
    assert by_job(tmp_path)["0.1"].beaten_by_fewer_steps is True
    # The machine was three times as slow as when the rivals ran: 1.2 s are those of 5.6 of 28 steps.
    made["timing"]["reference_median"] = 6.0
    write_job(tmp_path / "0.1", made)
    row = by_job(tmp_path)["0.1"]
    assert row.beaten_by_fewer_steps is False and row.judged_same_run
    assert "~" not in report_md(collect(tmp_path))
    made["timing"]["same_run"] = False
    write_job(tmp_path / "0.1", made)
    row = by_job(tmp_path)["0.1"]
    assert row.beaten_by_fewer_steps is True and not row.judged_same_run, "seconds as they are"
    text = report_md(collect(tmp_path))
    assert "| ~beaten by 14 to 28 steps |" in text and "~beaten, ~better: timed in different runs" in text


def test_one_rival_of_another_run_makes_all_verdicts_guesses(tmp_path: Path, record: dict[str, Any]) -> None:
    rivalry(tmp_path, record, ("0.1", {"seconds": 1.2, "ssim": 0.9}))
    made = json.loads((tmp_path / "r7" / "record.json").read_text())
    made["timing"]["same_run"] = False
    write_job(tmp_path / "r7", made)
    row = by_job(tmp_path)["0.1"]
    assert row.beaten_by_fewer_steps is False and not row.judged_same_run


def test_the_reference_takes_part_in_the_front(tmp_path: Path, record: dict[str, Any]) -> None:
    """It takes 2 s, and has SSIM 1: what is slower is dominated, however good."""
    for value, seconds, ssim in (("0", 2.2, 1.0), ("0.01", 2.0, 1.0), ("0.1", 1.9, 0.9), ("0.2", 2.1, 0.95)):
        write_job(tmp_path / value, varied(record, [f"{KEY}={value}"], seconds=seconds, ssim=ssim))
    sweep = collect(tmp_path)
    assert [row.job for row in sweep.rows if row.front] == ["0.1"]
    assert "| **0.1** |" in report_md(sweep) and NOTHING_FASTER not in report_md(sweep) + page(sweep)
    # The machine was slow when that one ran: beside its own reference it is no faster.
    made = varied(record, [f"{KEY}=0.1"], seconds=1.9, ssim=0.9)
    made["timing"]["reference_median"] = 1.8
    write_job(tmp_path / "0.1", made)
    sweep = collect(tmp_path)
    assert not any(row.front for row in sweep.rows)
    assert NOTHING_FASTER in report_md(sweep) and "**0" not in report_md(sweep) and "Bold" not in report_md(sweep)
    assert NOTHING_FASTER in page(sweep) and "nothing is faster than the reference" in page(sweep)
    assert "Pareto front" not in figure(sweep).axes[0].get_legend_handles_labels()[1]


@pytest.mark.parametrize("median", [None, 0, -1])
def test_without_the_references_time_the_line_ends_at_the_slowest_rival(
    tmp_path: Path, record: dict[str, Any], median: float | None
) -> None:
    rivalry(tmp_path, record, ("0.1", {"seconds": 2.1, "ssim": 0.9}))
    made = json.loads((tmp_path / "0.1" / "record.json").read_text())
    made["timing"]["reference_median"] = median
    write_job(tmp_path / "0.1", made)
    row = by_job(tmp_path)["0.1"]
    assert row.reference_seconds is None and row.beaten_by_fewer_steps is False and not row.judged_same_run


@pytest.mark.parametrize("change", [{"batch_size": 2}, {"memory": {"name": "x", "vae_slicing": True}}])
def test_rivals_have_the_same_batch_size_and_memory(
    tmp_path: Path, record: dict[str, Any], change: dict[str, Any]
) -> None:
    rivalry(tmp_path, record, ("0.1", {"seconds": 1.2, "ssim": 0.65}))
    assert by_job(tmp_path)["0.1"].beaten_by_fewer_steps is True
    made = json.loads((tmp_path / "0.1" / "record.json").read_text())
    made["config"] |= change
    write_job(tmp_path / "0.1", made)
    rows = by_job(tmp_path)
    assert rows["0.1"].beaten_by_fewer_steps is None, "there is no rival of its kind"
    assert len({row.compared_with for row in rows.values()}) == 1 and rows["0.1"].rivals_with != rows["r7"].rivals_with


def test_storing_weights_in_few_bits_is_judged_by_the_same_rivals(tmp_path: Path, record: dict[str, Any]) -> None:
    rivalry(tmp_path, record, ("0.1", {"seconds": 1.2, "ssim": 0.65}))
    made = json.loads((tmp_path / "0.1" / "record.json").read_text())
    made["config"]["memory"] = {**(made["config"]["memory"] or {}), "layerwise_casting": "float8_e4m3fn"}
    write_job(tmp_path / "0.1", made)
    assert by_job(tmp_path)["0.1"].beaten_by_fewer_steps is True


def test_rows_with_other_references_are_not_judged_by_one_another(tmp_path: Path, record: dict[str, Any]) -> None:
    for number, sampler in enumerate(("euler", "unipc")):
        for order, (seconds, ssim) in enumerate(((0.5, 0.6), (1.0, 0.9))):
            made = varied(record, [f"sampler={sampler}", f"{KEY}={order}"], seconds=seconds + number / 2, ssim=ssim)
            made["config"]["sampler"] = {"name": sampler}
            write_job(tmp_path / f"{number}{order}", made)
    rows = by_label(tmp_path)
    assert set(rows) == {"euler, 0", "euler, 1", "unipc, 0", "unipc, 1"}
    assert all(row.front for row in rows.values()), "each is on the front of its own sampler"
    assert len({row.compared_with for row in rows.values()}) == 2
