"""Axes, labels and the command of a sweep, as a report names them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.report.records import varied, write_job, write_sweep
from wavespeed_runner.report.collect import collect

Finished = tuple[Path, dict[str, Any]]


KEY = "cache.residual_diff_threshold"


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
