"""Reports of interrupted, lost and damaged jobs, and of folders that hold other things."""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.report.records import write_job, write_sweep
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.process.folder_lock import lock_folder
from wavespeed_runner.records.file import Allowance
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page

Finished = tuple[Path, dict[str, Any]]


KEY = "cache.residual_diff_threshold"


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


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sampler": "text"}, "config.sampler: keys and their values are needed"),
        ({"model": [1]}, "config.model: keys and their values are needed"),
        ({"graph": {"stages": {"denoise": 3}}}, "config.graph.stages.denoise: keys and their values are needed"),
        ({"steps": "x"}, "config.steps: a whole number is needed"),
    ],
)
def test_a_config_of_another_shape_is_told_by_its_key(
    tmp_path: Path, finished: Finished, change: dict[str, Any], words: str
) -> None:
    made = deepcopy(finished[1])
    made["config"] |= change
    write_job(tmp_path / "a", made)
    (row,) = collect(tmp_path).rows
    assert (row.status, row.reason) == ("lost", f"record.json is damaged: {words}")


def test_an_override_that_cannot_be_read_is_told_as_everywhere(tmp_path: Path, finished: Finished) -> None:
    made = deepcopy(finished[1])
    made["overrides"] = ["prompt=\x1b[31m"]
    write_job(tmp_path / "a", made)
    (row,) = collect(tmp_path).rows
    assert row.status == "lost" and "\n" not in row.reason and "Exception" not in row.reason
    assert row.reason.startswith("record.json is damaged: prompt=?[31m: cannot be read as KEY=VALUE; quote the value")


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


@pytest.mark.parametrize("change", [{"steps": "x"}, {"measure": {"reference_steps": "x"}}, {"model": []}])
def test_an_edited_config_of_a_run_that_failed_leaves_cells_empty(
    tmp_path: Path, finished: Finished, change: dict[str, Any]
) -> None:
    record = {**finished[1], "status": "failed", "config": {**finished[1]["config"], **change}}
    write_job(tmp_path / "a", {**record, "reference": {"kind": "run"}})
    sweep = collect(tmp_path)
    (row,) = csv.DictReader(StringIO(results_csv(sweep)))
    assert row["status"] == "failed" and "" in (row["reference_steps"], row["model"])
    assert report_md(sweep) and page(sweep) and figure(sweep)


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
        json.dumps({"jobs": [{"number": number, "overrides": []} for number in range(20_001)]}),
        json.dumps({"jobs": [{"number": 0, "overrides": [f"{KEY}={'a,' * 1_000_000}"]}]}),
        json.dumps({"jobs": [{"number": 0, "overrides": ["a=1"] * 1001}]}),
        json.dumps({"jobs": [{"number": number, "overrides": ["a=1"] * 500} for number in range(500)]}),
        json.dumps({"jobs": [{"number": 0, "overrides": []}], "command": ["a"] * 100_000}),
        json.dumps({"jobs": [{"number": 0, "overrides": []}], "axes": [f"a{number}" for number in range(101)]}),
    ],
    ids=range(15),
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


@pytest.mark.parametrize("link", ["0", "0/record.json", "0/lost.json", "0/images", "sweep.json"])
def test_no_link_of_a_sweep_leads_to_another_run(tmp_path: Path, finished: Finished, link: str) -> None:
    """Somebody's sweep would bring prompts and images of yours into its page."""
    private, sweep = tmp_path / "private", tmp_path / "sweep"
    secret = {**finished[1], "samples": [{**one, "prompt": "a secret"} for one in finished[1]["samples"]]}
    write_job(private / "0", secret)
    write_sweep(private, [{"overrides": ["prompt='a secret'"]}], [])
    (private / "0" / "lost.json").write_text('{"reason": "a secret"}')
    shutil.copytree(finished[0] / "images", private / "0" / "images")
    write_sweep(sweep, [{"overrides": ["cache=fbcache"]}], [])
    write_job(sweep / "0", finished[1])
    gone = sweep / link
    shutil.rmtree(gone) if gone.is_dir() else gone.unlink(missing_ok=True)
    gone.symlink_to(private / link)
    made = collect(sweep)
    text = page(made)
    assert "a secret" not in text + report_md(made) + results_csv(made) and "data:image/webp;base64" not in text
    if link.startswith("0") and link != "0/images":
        assert made.rows[0].reason.startswith("a link leads out of the folder")
    (tmp_path / "other").symlink_to(private)
    assert "a secret" in page(collect(tmp_path / "other")), "the folder that is typed may be a link"


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


def test_what_all_records_of_a_report_may_have_together_is_bounded(
    tmp_path: Path, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        write_job(tmp_path / name, record)
    size = (tmp_path / "a" / "record.json").stat().st_size
    monkeypatch.setattr(Allowance.__init__, "__defaults__", (2 * size, 10**9))
    rows = collect(tmp_path).rows
    assert [row.status for row in rows].count("completed") == 2
    (left,) = [row for row in rows if row.status == "lost"]
    assert left.job == "c" and "not read: with it the records" in left.reason and "fewer of them" in left.reason
    monkeypatch.setattr(Allowance.__init__, "__defaults__", (10**9, 3))
    assert [row.status for row in collect(tmp_path).rows] == ["lost"] * 3
