"""What judges say in the console, in results.csv, in Markdown, on the page, in a claim and in its verdict."""

from __future__ import annotations

import csv
import json
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import yaml

from wavespeed_runner.config.claim import ClaimedFigure
from wavespeed_runner.metrics.quality import summarize_metrics
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.record import Record
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.console_rows import judge_rows
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.sharing.claim import build_claim, find_contradictions
from wavespeed_runner.sharing.claim_text import format_claim
from wavespeed_runner.sharing.verdict import verify_claim

VALUES = {"lpips": (0.125, 0.25), "scene": (1.0, 0.0)}


@pytest.fixture
def judged(finished: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    """The record of a run as if two judges had been asked."""
    data = deepcopy(finished[1])
    for place, sample in enumerate(data["samples"]):
        sample["metrics"] = {name: values[place] for name, values in VALUES.items()}
        sample["metrics_of_reference"] = {"scene": 1.0}
    figures = summarize_metrics([sample["metrics"] for sample in data["samples"]], less_is_better=["lpips"])
    data["metrics"] = {
        "lpips": {**figures["lpips"], "less_is_better": True},
        "scene": {**figures["scene"], "less_is_better": False, "reference_mean": 1.0},
    }
    data["config"]["metrics"] = {"lpips": {"net": "alex", "weights": "x.safetensors"}, "scene": {}}
    return data


@pytest.fixture
def folder(judged: dict[str, Any], tmp_path: Path) -> Path:
    (tmp_path / "record.json").write_text(json.dumps(judged))
    return tmp_path


def test_the_console_has_a_row_for_each(judged: dict[str, Any]) -> None:
    rows = judge_rows(record_from_data(judged))
    assert rows == [
        ("lpips, less is better, mean (worst)", "", "0.1875 (0.25)"),
        ("  95 % interval, 2 prompts", "", "0.125 to 0.25"),
        ("scene, mean (worst)", "1", "0.5 (0)"),
        ("  95 % interval, 2 prompts", "", "0 to 1"),
    ]


def test_the_table_has_columns_for_each(folder: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    (row,) = csv.DictReader(StringIO(results_csv(collect(folder))))
    assert (row["metrics.lpips"], row["metrics.lpips_worst"], row["metrics.scene_worst"]) == ("0.1875", "0.25", "0.0")
    assert (row["metrics.lpips_of_reference"], row["metrics.scene_of_reference"]) == ("", "1.0")
    assert float(row["metrics.lpips_p10"]) == pytest.approx(0.2375), "a tenth are no better: the 90th percentile"
    assert "metrics." not in results_csv(collect(finished[0]))


def test_the_report_has_a_table_for_each(folder: Path, finished: tuple[Path, dict[str, Any]]) -> None:
    text = report_md(collect(folder))
    assert "lpips (less is better)" in text and "scene (more is better)" in text
    assert "| 0.1875 (0.125 to 0.25) | 0.1875, 0.2375 | 0.25 (" in text
    assert "## Judges" not in report_md(collect(finished[0]))


def test_the_page_has_them_in_its_table_and_its_data(folder: Path) -> None:
    html = page(collect(folder))
    assert 'title="less is better; metrics=lpips"' in html and ">0.1875<small>" in html
    assert "<small>reference 1</small>" in html
    assert '"key":"metrics.lpips","name":"lpips"' in html.replace(" ", "").replace("&#34;", '"')


@pytest.fixture
def record(judged: dict[str, Any]) -> Record:
    return record_from_data(judged)


def test_a_claim_has_a_figure_for_each(record: Record) -> None:
    claim = build_claim(record)
    figure = claim.metrics["lpips"]
    assert (figure.value, figure.low, figure.high, figure.worst) == (0.1875, 0.125, 0.25, 0.25)
    assert not find_contradictions(claim)
    text = yaml.safe_load(format_claim(claim))["claim"]["metrics"]
    assert text.keys() == {"lpips", "scene"} and text["scene"]["worst"] == 0.0


def find_verdict(claim: Any, record: Record, name: str = "metrics.lpips") -> Any:
    (part,) = (part for part in verify_claim(claim, record) if part.name == name)
    return part


def test_the_same_values_are_reproduced_and_worse_ones_are_not(record: Record) -> None:
    claim = build_claim(record)
    assert find_verdict(claim, record).verdict == "reproduced"
    claim.metrics["lpips"] = ClaimedFigure(value=0.1)
    assert find_verdict(claim, record).verdict == "not reproduced"
    claim.metrics["lpips"] = ClaimedFigure(value=0.3)
    part = find_verdict(claim, record)
    assert part.verdict == "reproduced" and part.better, "less is better"


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (ClaimedFigure(value=0.18, low=0.1, high=0.9), "reproduced"),  # within a tenth of its value
        (ClaimedFigure(value=0.186, low=0.186, high=0.186), "within noise"),
        (ClaimedFigure(value=0.15, low=0.0, high=0.9), "not reproduced"),
    ],
)
def test_of_other_images_the_claims_own_interval_counts_up_to_a_cap(
    record: Record, figure: ClaimedFigure, verdict: str
) -> None:
    claim = build_claim(record)
    claim.pixels_sha256 = ["other"] * 2
    claim.metrics = {"lpips": figure}
    assert find_verdict(claim, record).verdict == verdict


def test_a_judge_that_is_not_asked_here_is_not_compared(record: Record) -> None:
    claim = build_claim(record)
    del record.config["metrics"]["lpips"]
    part = find_verdict(claim, record)
    assert part.verdict is None and "not asked for here" in part.text


def test_a_claim_that_contradicts_itself_is_told(record: Record) -> None:
    claim = build_claim(record)
    claim.metrics["lpips"] = ClaimedFigure(value=0.2, worst=0.1)
    assert find_contradictions(claim) == ["metrics.lpips worst 0.1 is better than the mean 0.2"]


def test_a_record_without_judges_is_read_as_before(finished: tuple[Path, dict[str, Any]]) -> None:
    assert "metrics" not in finished[1] and record_from_data(finished[1]).metrics is None
    assert judge_rows(record_from_data(finished[1])) == []
