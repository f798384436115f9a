"""What a report collects from a folder: every job, its status and its figures."""

from __future__ import annotations

import csv
import json
import time
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.report.records import by_job, by_label, study, varied, write_job
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page

Finished = tuple[Path, dict[str, Any]]


KEY = "cache.residual_diff_threshold"


def test_a_single_run_is_a_sweep_of_one(finished: Finished) -> None:
    folder, record = finished
    sweep = collect(folder)
    (row,) = sweep.rows
    assert sweep.finished and row.status == "completed" and row.job == folder.name
    assert row.label == "fbcache" and sweep.command == "python -m wavespeed_runner cache=fbcache"
    assert row.seconds is not None and row.seconds.value == record["timing"]["median"]
    assert row.speedup == record["timing"]["speedup"] and row.same_run
    assert row.computed_share == pytest.approx(record["engaged"]["cache"]["flop_share"])
    for metric in ("mae", "mae_similarity", "ssim", "psnr"):
        found, summary = row.quality[metric], record["quality"][metric]
        assert found.mean.value == pytest.approx(summary["mean"]) and found.worst == summary["worst"]
        assert (found.median, found.p10) == pytest.approx((summary["median"], summary["p10"]))
        worst = next(s for s in record["samples"] if s["quality"][metric] == found.worst)
        assert (found.worst_prompt, found.worst_seed) == (worst["prompt"], worst["seed"])
        assert found.mean.low <= found.mean.value <= found.mean.high and found.noise_floor is None
    assert row.front == (row.seconds.value < record["timing"]["reference_median"]), "a tiny model may gain nothing"
    assert row.beaten_by_fewer_steps is None and not row.rival and not row.never_hit
    assert sweep.environment == record["environment"]


def test_a_sweep_says_what_has_become_of_every_job(tmp_path: Path, record: dict[str, Any]) -> None:
    sweep = collect(study(tmp_path / "sweep", record))
    assert [row.job for row in sweep.rows] == [str(number) for number in range(12)]
    assert [row.status for row in sweep.rows] == ["completed"] * 9 + ["failed", "skipped", "missing"]
    assert not sweep.finished
    failed, skipped, missing = sweep.rows[9:]
    assert failed.reason == "stage denoise: OutOfMemoryError: out of | <b>memory</b>" and failed.seconds is None
    assert skipped.reason == "rule x: 8 is too much" and missing.reason == "not run yet"
    thresholds, rivals = sweep.rows[:6], sweep.rows[6:9]
    assert [row.label for row in thresholds] == ["0.0", "0.01", "0.02", "0.03", "0.04", "0.05"]
    assert [row.label for row in rivals] == ["7 steps", "14 steps", "21 steps"]
    assert sweep.rows[6].axes == {KEY: "", "cache": "none", "steps": "7", "measure.reference_steps": "28"}
    assert sweep.command == "python -m wavespeed_runner -m cache=fbcache 'cache.residual_diff_threshold=range(0,1)'"


def test_a_cache_that_never_hit_is_told(tmp_path: Path, record: dict[str, Any]) -> None:
    for value, share in (("0", 1.0), ("0.1", 0.5)):
        write_job(tmp_path / value, varied(record, ["cache=fbcache", f"{KEY}={value}"], share=share, steps=14))
    write_job(tmp_path / "none", varied(record, ["cache=none"], share=None, rival=True, steps=14))
    rows = by_job(tmp_path)
    assert {job: row.never_hit for job, row in rows.items()} == {"0": True, "0.1": False, "none": False}
    assert rows["0"].computed_share == 0.5, "of twice as many steps"
    sweep = collect(tmp_path)
    said = f"The cache never hit in 1 job: {rows['0'].label}."
    assert said in report_md(sweep) and said in page(sweep) and page(sweep).count("<small>cache never hit</small>") == 1
    told = {row["job"]: row["never_hit"] for row in csv.DictReader(StringIO(results_csv(sweep)))}
    assert told == {"0": "1", "0.1": "0", "none": "0"}


def test_the_noise_floor_is_the_worst_that_was_measured(tmp_path: Path, record: dict[str, Any]) -> None:
    quality = by_label(study(tmp_path, record))["0.0"].quality
    floors = {metric: found.noise_floor for metric, found in quality.items()}
    assert floors == {"mae": 0.5, "mae_similarity": 1 - 0.5 / 255, "ssim": 0.997, "psnr": 48.0}


def test_identical_images_have_no_psnr_and_every_other_figure(tmp_path: Path, record: dict[str, Any]) -> None:
    for sample in record["samples"]:
        sample["quality"] = {"mae": 0.0, "mae_similarity": 1.0, "ssim": 1.0, "psnr": None}
    write_job(tmp_path / "all", record)
    (row,) = collect(tmp_path).rows
    assert set(row.quality) == {"mae", "mae_similarity", "ssim"} and row.quality["ssim"].mean.low == 1.0
    record["samples"][0]["quality"]["psnr"] = 40.0
    write_job(tmp_path / "all", record)
    assert collect(tmp_path).rows[0].quality["psnr"].mean.value == 40.0


def test_jobs_on_several_machines_are_told(tmp_path: Path, finished: Finished) -> None:
    for name in ("one", "two"):
        made = deepcopy(finished[1])
        made["environment"]["device_name"] = name
        write_job(tmp_path / name, made)
    sweep = collect(tmp_path)
    assert sweep.environment["differs"] == {"device_name": ["one", "two"]}
    assert len({row.compared_with for row in sweep.rows}) == 2


@pytest.mark.parametrize("first", ["one process", "two ranks"])
def test_jobs_with_and_without_ranks_are_of_one_machine(tmp_path: Path, finished: Finished, first: str) -> None:
    name = finished[1]["environment"]["device_name"]
    made = deepcopy(finished[1])
    made["environment"]["devices"] = [name, name]
    write_job(tmp_path / ("a" if first == "two ranks" else "z"), made)
    write_job(tmp_path / "m", finished[1])
    assert "differs" not in collect(tmp_path).environment
    made["environment"]["devices"] = [name, "another"]
    write_job(tmp_path / "b", made)
    differs = collect(tmp_path).environment["differs"]
    assert sorted(differs.pop("devices"), key=len) == [[name], sorted([name, "another"])] and not differs


@pytest.mark.slow
def test_a_thousand_jobs_take_seconds(tmp_path: Path, finished: Finished) -> None:
    text = json.dumps(varied(finished[1], ["cache=fbcache", "KEY"]))
    for number in range(1000):
        (tmp_path / str(number)).mkdir()
        own = text.replace("KEY", f"{KEY}={number / 1000}")
        (tmp_path / str(number) / "record.json").write_text(own, encoding="utf-8")
    begin = time.process_time()
    rows = collect(tmp_path).rows
    assert len({row.label for row in rows}) == len(rows) == 1000
    assert time.process_time() - begin < 30
