"""What a report knows of a folder: every job there is or should be, whatever state its files are in."""

from __future__ import annotations

import csv
import json
import os
import time
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.records import study, varied, write_job, write_sweep
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.process.folder_lock import lock_folder
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.remarks import NOTHING_FASTER
from wavespeed_runner.report.rows import Row

Finished = tuple[Path, dict[str, Any]]
KEY = "cache.residual_diff_threshold"


@pytest.fixture
def record(finished: Finished) -> dict[str, Any]:
    return deepcopy(finished[1])


def by_label(folder: Path) -> dict[str, Row]:
    return {row.label: row for row in collect(folder).rows}


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


def by_job(folder: Path) -> dict[str, Row]:
    return {row.job: row for row in collect(folder).rows}


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
    assert "| ~beaten |" in text and "~beaten, ~better: timed in different runs" in text


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


def test_points_beside_another_axis_are_told_by_what_they_set(tmp_path: Path, record: dict[str, Any]) -> None:
    jobs = []
    for overrides, rival in ((["cache=none", "steps=8"], True), (["cache=fbcache"], False)):
        for seed in (1, 2):
            own = [*overrides, f"seed={seed}"]
            steps = 8 if rival else 28
            write_job(tmp_path / str(len(jobs)), varied(record, own, rival=rival, steps=steps))
            jobs.append({"overrides": own})
    write_sweep(tmp_path, jobs, ["cache", "steps", "seed"])
    sweep = collect(tmp_path)
    assert sweep.title == "flux (tiny): cache, steps, seed"
    assert [row.label for row in sweep.rows] == [
        "8 steps, seed 1",
        "8 steps, seed 2",
        "fbcache, seed 1",
        "fbcache, seed 2",
    ]


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


def test_the_noise_floor_is_the_worst_that_was_measured(tmp_path: Path, record: dict[str, Any]) -> None:
    quality = by_label(study(tmp_path, record))["0.0"].quality
    floors = {metric: found.noise_floor for metric, found in quality.items()}
    assert floors == {"mae": 0.5, "mae_similarity": 1 - 0.5 / 255, "ssim": 0.997, "psnr": 48.0}


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


def test_identical_images_have_no_psnr_and_every_other_figure(tmp_path: Path, record: dict[str, Any]) -> None:
    for sample in record["samples"]:
        sample["quality"] = {"mae": 0.0, "mae_similarity": 1.0, "ssim": 1.0, "psnr": None}
    write_job(tmp_path / "all", record)
    (row,) = collect(tmp_path).rows
    assert set(row.quality) == {"mae", "mae_similarity", "ssim"} and row.quality["ssim"].mean.low == 1.0
    record["samples"][0]["quality"]["psnr"] = 40.0
    write_job(tmp_path / "all", record)
    assert collect(tmp_path).rows[0].quality["psnr"].mean.value == 40.0


def test_axes_are_what_differs_where_no_sweep_says_them(tmp_path: Path, record: dict[str, Any]) -> None:
    for number, value in enumerate(("0.1", "0.2", "0.2")):
        overrides = ["cache=fbcache", f"{KEY}={value}", f"seed={number // 2}", f"outputs=/tmp/{number}"]
        write_job(tmp_path / "2026-01-01" / str(number), varied(record, overrides))
    sweep = collect(tmp_path)
    assert sweep.axes == [KEY, "seed"] and sweep.command == "", "two of the four combinations are not there"
    assert [row.label for row in sweep.rows] == [
        "threshold 0.1, seed 0",
        "threshold 0.2, seed 0",
        "threshold 0.2, seed 1",
    ]
    assert [row.job for row in sweep.rows] == ["2026-01-01/0", "2026-01-01/1", "2026-01-01/2"]


def test_values_are_read_as_they_were_typed(tmp_path: Path, record: dict[str, Any]) -> None:
    prompts = ("a\\ red\\ circle", "'a, b'", "a\\ blue\\,\\ square")
    jobs = [{"overrides": [f"prompt={prompt}"]} for prompt in prompts]
    write_sweep(tmp_path, jobs, ["prompt"], ["-m", "prompt=..."])
    rows = collect(tmp_path).rows
    assert [row.axes["prompt"] for row in rows] == ["a red circle", "'a, b'", "a blue, square"]
    assert [row.label for row in rows] == ["a red circle", "a, b", "a blue, square"]


def test_a_full_grid_has_one_command(tmp_path: Path, record: dict[str, Any]) -> None:
    for number in range(12):
        overrides = ["cache=fbcache", f"{KEY}={number % 6 / 10}", f"seed={number // 6}"]
        write_job(tmp_path / str(number), varied(record, overrides))
    sweep = collect(tmp_path)
    assert [row.job for row in sweep.rows] == [str(number) for number in range(12)], "10 after 9"
    assert sweep.command == f"python -m wavespeed_runner -m cache=fbcache {KEY}=0.0,0.1,0.2,0.3,0.4,0.5 seed=0,1"


def test_jobs_that_nothing_tells_apart_are_told_by_their_folders(tmp_path: Path, record: dict[str, Any]) -> None:
    for name in ("a", "b"):
        write_job(tmp_path / name, record)
    assert {row.label for row in collect(tmp_path).rows} == {"fbcache (a)", "fbcache (b)"}


def in_sweep(tmp_path: Path) -> Path:
    write_sweep(tmp_path, [{"overrides": ["cache=fbcache"], "identity": "1" * 64}], [])
    (tmp_path / "0").mkdir()
    return tmp_path / "0"


def test_a_running_job_is_told_from_a_killed_one_by_its_lock(tmp_path: Path, record: dict[str, Any]) -> None:
    job = in_sweep(tmp_path)
    unfinished = {**record, "status": "interrupted", "error": None, "identity": "1" * 64}
    write_job(job, unfinished)
    lock = lock_folder(job)
    assert lock is not None and collect(tmp_path).rows[0].status == "running"
    os.close(lock)
    row = collect(tmp_path).rows[0]
    assert row.status == "interrupted" and row.reason.startswith("no end yet, last written ")


def test_without_a_lock_the_time_of_the_last_write_tells(tmp_path: Path, record: dict[str, Any]) -> None:
    write_job(tmp_path / "a", {**record, "status": "interrupted", "error": None})
    assert collect(tmp_path).rows[0].status == "running" and not collect(tmp_path).finished
    before = time.time() - 3600
    os.utime(tmp_path / "a" / "record.json", (before, before))
    assert collect(tmp_path).rows[0].status == "interrupted"
    write_job(tmp_path / "a", {**record, "status": "interrupted", "error": {"stage": "x", "type": "KeyboardInterrupt"}})
    assert collect(tmp_path).rows[0].status == "interrupted", "that one has said so"


def test_a_lost_job_says_why(tmp_path: Path, record: dict[str, Any]) -> None:
    job = in_sweep(tmp_path)
    (job / "lost.json").write_text('{"reason": "killed by signal 9\\n\\u001b[31m"}', encoding="utf-8")
    row = collect(tmp_path).rows[0]
    assert (row.status, row.reason) == ("lost", "killed by signal 9 ?[31m")
    write_job(job, {**record, "status": "interrupted", "error": None, "identity": "1" * 64})
    assert collect(tmp_path).rows[0].status == "lost" and collect(tmp_path).finished
    (job / "lost.json").write_text("[", encoding="utf-8")
    assert "lost.json cannot be read" in collect(tmp_path).rows[0].reason


def test_a_record_of_another_configuration_does_not_count(tmp_path: Path, record: dict[str, Any]) -> None:
    write_job(in_sweep(tmp_path), {**record, "identity": "2" * 64})
    row = collect(tmp_path).rows[0]
    assert row.status == "missing" and row.record is None and "another configuration" in row.reason


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema_version": 1}', '{"config": {}, "schema_version": 7}', "\0\0\0"]
)
def test_a_damaged_record_is_a_row_that_says_so(tmp_path: Path, finished: Finished, text: str) -> None:
    write_job(tmp_path / "good", finished[1])
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text(text, encoding="utf-8")
    bad, good = collect(tmp_path).rows
    assert bad.status == "lost" and "record.json" in bad.reason and good.status == "completed"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_whatever_a_record_lacks_there_is_a_report(tmp_path: Path, finished: Finished, data: st.DataObject) -> None:
    """Anywhere in a record, a value is taken away or is another one."""
    made = deepcopy(finished[1])
    node: Any = made
    for _ in range(data.draw(st.integers(1, 5))):
        keys = sorted(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        if not isinstance(node[key], dict | list) or data.draw(st.booleans()):
            node[key] = data.draw(st.sampled_from([None, "text", -1, [], {}, [None], {"ssim": None}, 1e308, True]))
            break
        node = node[key]
    write_job(tmp_path / "a", made)
    sweep = collect(tmp_path)
    (row,) = sweep.rows
    assert row.status in ("completed", "lost", "failed", "interrupted", "running")
    assert row.status == "completed" or row.reason
    assert report_md(sweep) and results_csv(sweep).count("\n") == 2 and page(sweep)


@pytest.mark.parametrize(
    "change",
    [
        {"environment": {"versions": "text", "device_name": 3}},
        {"timing": {"reference_median": "text"}},
        {"timing": [3]},
    ],
)
def test_a_damaged_record_of_a_failed_run_is_a_row_that_says_so(
    tmp_path: Path, finished: Finished, change: dict[str, Any]
) -> None:
    """Also a run that failed has a record that is checked whole."""
    write_job(tmp_path / "a", {**finished[1], "status": "failed", **change})
    write_job(tmp_path / "b", finished[1])
    sweep = collect(tmp_path)
    assert [row.status for row in sweep.rows] == ["lost", "completed"]
    assert "record.json: not a readable record: Expected" in sweep.rows[0].reason
    assert report_md(sweep) and results_csv(sweep) and page(sweep) and figure(sweep)


def test_a_run_that_was_killed_before_its_record_is_seen(tmp_path: Path, finished: Finished) -> None:
    write_job(tmp_path / "good", finished[1])
    (tmp_path / "early" / ".hydra").mkdir(parents=True)
    (tmp_path / "early" / "config.yaml").write_text("", encoding="utf-8")
    assert [row.status for row in collect(tmp_path).rows] == ["lost", "completed"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"jobs": 3}',
        '{"jobs": [{"number": "x"}]}',
        '{"jobs": [], "axes": 3}',
        '{"jobs": [], "axes": null}',
        '{"jobs": [], "command": {"a": 1}}',
        '{"jobs": [], "config_dir": ["x"]}',
        '{"jobs": [{"number": Infinity, "overrides": []}]}',
    ],
)
def test_a_damaged_sweep_file_leaves_its_records(tmp_path: Path, finished: Finished, text: str) -> None:
    write_job(tmp_path / "0", finished[1])
    (tmp_path / "sweep.json").write_text(text, encoding="utf-8")
    assert [row.status for row in collect(tmp_path).rows] == ["completed"]


def test_links_are_not_followed(tmp_path: Path, finished: Finished) -> None:
    write_job(tmp_path / "foreign" / "0", finished[1])
    write_job(tmp_path / "sweep" / "0", finished[1])
    (tmp_path / "sweep" / "loop").symlink_to(tmp_path / "sweep")
    (tmp_path / "sweep" / "other").symlink_to(tmp_path / "foreign")
    assert [row.job for row in collect(tmp_path / "sweep").rows] == ["0"]


def test_a_folder_that_may_not_be_read_has_no_runs(
    tmp_path: Path, finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job(tmp_path / "0", finished[1])
    (tmp_path / "1" / "deep").mkdir(parents=True)
    scan = os.scandir

    def refusing(path: Path) -> Any:  # root may read everything
        if path == tmp_path / "1" / "deep":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr("wavespeed_runner.records.listing.os.scandir", refusing)
    assert [row.job for row in collect(tmp_path).rows] == ["0"]


def test_the_command_to_share_has_no_place_of_ones_own(tmp_path: Path, finished: Finished) -> None:
    overrides = ["cache=fbcache", "outputs=/home/me/secret"]
    write_job(tmp_path / "one" / "0", varied(finished[1], overrides))
    assert collect(tmp_path / "one").command == "python -m wavespeed_runner cache=fbcache"
    typed = ["-m", "seed=1,2", "outputs=/home/me/secret", "rerun=true", "--config-dir", "outputs"]
    write_sweep(tmp_path / "two", [{"overrides": [f"seed={seed}", *overrides]} for seed in (1, 2)], ["seed"], typed)
    assert collect(tmp_path / "two").command == "python -m wavespeed_runner -m seed=1,2 --config-dir outputs"
    for seed in (1, 2):
        made = varied(finished[1], [f"seed={seed}", "cache=fbcache", f"outputs=/home/me/{seed}"])
        write_job(tmp_path / "three" / str(seed), made)
    assert collect(tmp_path / "three").command == "python -m wavespeed_runner -m seed=1,2 cache=fbcache"


def test_the_store_and_images_are_not_searched(tmp_path: Path, finished: Finished) -> None:
    for place in ("store/aa", "runs/1/images", "runs/1"):
        write_job(tmp_path / place, finished[1])
    assert [row.job for row in collect(tmp_path).rows] == ["runs/1"]


@pytest.mark.parametrize("make", [True, False])
def test_a_folder_without_anything_of_ours_is_refused_in_one_line(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "nothing").mkdir()
        (tmp_path / "nothing" / "notes.json").write_text("{}")
    with pytest.raises(ConfigError, match="no record.json and no sweep.json" if make else "no such folder"):
        collect(tmp_path / "nothing")


def test_jobs_on_several_machines_are_told(tmp_path: Path, finished: Finished) -> None:
    for name in ("one", "two"):
        made = deepcopy(finished[1])
        made["environment"]["device_name"] = name
        write_job(tmp_path / name, made)
    sweep = collect(tmp_path)
    assert sweep.environment["differs"] == {"device_name": ["one", "two"]}
    assert len({row.compared_with for row in sweep.rows}) == 2


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
