"""Rivals of other samplers: every uncached run with the same reference counts, and the best one is named."""

from __future__ import annotations

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

from tests.report.records import by_job, by_label, varied, write_job
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.figure_styles import RIVAL
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.page.data import page_data
from wavespeed_runner.report.page.images import Album

KEY = "cache.residual_diff_threshold"
DEFAULT = {"name": "default"}
UNIPC = {"name": "unipc", "sigmas": None, "timestep_spacing": None, "order": 2, "shift": 1.65}


def rival(record: dict[str, Any], sampler: dict[str, Any], steps: int, ssim: float) -> dict[str, Any]:
    """Of the 2 s that 28 steps take its share."""
    typed = [f"sampler={sampler['name']}", *([f"sampler.shift={sampler['shift']}"] if "shift" in sampler else [])]
    overrides = ["cache=none", *typed, f"steps={steps}", "measure.reference_sampler=own"]
    made = varied(
        record, overrides, seconds=steps / 14, ssim=ssim, share=None, steps=steps, rival=True, sampler=sampler
    )
    for sample in made["samples"]:
        sample["reference_steps"], sample["steps"] = 28, [{**sample["steps"][0], "computed": True}] * steps
    return made


def setting(record: dict[str, Any], value: str, seconds: float, ssim: float) -> dict[str, Any]:
    return varied(record, ["cache=fbcache", f"{KEY}={value}"], seconds=seconds, ssim=ssim, sampler=DEFAULT)


def contest(folder: Path, record: dict[str, Any]) -> None:
    """Two samplers of 7 and 14 steps, 0.5 s and 1 s, of which the second is better; and settings between them."""
    for steps, euler, unipc in ((7, 0.5, 0.8), (14, 0.7, 0.9)):
        write_job(folder / f"e{steps}", rival(record, DEFAULT, steps, euler))
        write_job(folder / f"u{steps}", rival(record, UNIPC, steps, unipc))
    figures = {"0.1": (0.75, 0.84), "0.2": (0.75, 0.86), "0.3": (0.5, 0.7), "0.4": (0.4, 0.6), "0.5": (1.9, 0.99)}
    for value, (seconds, ssim) in figures.items():
        write_job(folder / value, setting(record, value, seconds, ssim))


def test_the_best_of_all_samplers_in_the_same_time_decides_and_is_named(tmp_path: Path, record: dict[str, Any]) -> None:
    contest(tmp_path, record)
    rows = by_job(tmp_path)
    found = {name: (rows[name].beaten_by_fewer_steps, rows[name].best_rival) for name in rows if not rows[name].rival}
    assert found == {
        # Half way from UniPC's 7 steps to its 14: 0.8495. 10 steps of Euler have 0.6.
        "0.1": (True, "unipc 7 to 14 steps, shift 1.65"),
        "0.2": (False, "unipc 7 to 14 steps, shift 1.65"),
        "0.3": (True, "unipc 7 steps, shift 1.65"),
        "0.4": (False, ""),
        # Only the reference's own sampler leads to it: 0.9 of the way from 0.6995 at 1 s to 1 at 2 s.
        "0.5": (False, "14 to 28 steps"),
    }
    assert all(row.rival for name, row in rows.items() if name[0] in "eu")
    assert rows["u7"].computed_share == 0.25 and rows["u7"].solver == "unipc, shift 1.65" and rows["e7"].solver == ""
    assert len({row.compared_with for row in rows.values()}) == 1


def test_a_run_of_as_many_steps_of_another_sampler_is_a_rival_too(tmp_path: Path, record: dict[str, Any]) -> None:
    write_job(tmp_path / "u28", rival(record, UNIPC, 28, 0.99))
    write_job(tmp_path / "0.1", setting(record, "0.1", 2.0, 0.98))
    rows = by_job(tmp_path)
    assert rows["u28"].rival and not rows["u28"].same_work and rows["0.1"].beaten_by_fewer_steps is True


def test_the_models_own_sampler_is_the_same_by_its_name(tmp_path: Path, record: dict[str, Any]) -> None:
    """`sampler=euler` on a model whose own sampler it is: its line leads to the reference as that of `default` does."""
    contest(tmp_path, record)
    expected = by_job(tmp_path)["0.5"]
    for steps in (7, 14):
        made = json.loads((tmp_path / f"e{steps}" / "record.json").read_text())
        made["config"]["sampler"], made["reference"]["same_sampler"] = {"name": "euler"}, True
        write_job(tmp_path / f"e{steps}", made)
    rows = by_job(tmp_path)
    assert rows["e7"].solver == "" and rows["0.5"].best_rival == expected.best_rival == "14 to 28 steps"


def test_labels_name_the_sampler_once(tmp_path: Path, record: dict[str, Any]) -> None:
    contest(tmp_path, record)
    labels = set(by_label(tmp_path))
    assert {"unipc 7 steps, shift 1.65", "unipc 14 steps, shift 1.65", "7 steps, default", "14 steps, default"} < labels


def test_every_report_names_the_rival(tmp_path: Path, record: dict[str, Any]) -> None:
    contest(tmp_path, record)
    sweep = collect(tmp_path)
    text = report_md(sweep)
    assert "| beaten by unipc 7 to 14 steps, shift 1.65 |" in text and "| (other sampler) |" in text
    assert "| better than 14 to 28 steps |" in text and "| better |" in text
    assert "no better than unipc 7 steps, shift 1.65" in page(sweep)
    told = {row["job"]: row for row in csv.DictReader(StringIO(results_csv(sweep)))}
    assert told["0.3"]["best_rival"] == "unipc 7 steps, shift 1.65" and told["0.3"]["reference_sampler"] == "default"


def test_each_sampler_has_a_line_and_only_the_references_own_ends_there(tmp_path: Path, record: dict[str, Any]) -> None:
    contest(tmp_path, record)
    sweep = collect(tmp_path)
    drawn = [line for line in figure(sweep).axes[0].lines if line.get_linestyle() == "--" and line.get_color() == RIVAL]
    assert sorted(tuple(line.get_xdata()) for line in drawn) == [(0.5, 1.0), (0.5, 1.0, 2.0)]
    jobs = page_data(sweep, Album(side=8, lossless=True), 0, tmp_path)["jobs"]
    assert {job["solver"] for job in jobs} == {"", "unipc, shift 1.65"}


def test_samplers_with_references_of_their_own_do_not_compete(tmp_path: Path, record: dict[str, Any]) -> None:
    """`measure.reference_sampler=same`: UniPC's six steps are compared with UniPC's 28."""
    contest(tmp_path, record)
    for name in ("u7", "u14"):
        made = json.loads((tmp_path / name / "record.json").read_text())
        made["reference"]["sampler"] = made["config"]["sampler"]
        write_job(tmp_path / name, made)
    row = by_job(tmp_path)["0.1"]
    assert (row.beaten_by_fewer_steps, row.best_rival) == (False, "7 to 14 steps")
