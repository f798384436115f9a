"""Forks, medians and 10th percentiles beside means: on the console and in every file of a report."""

from __future__ import annotations

import csv
import io
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec import to_builtins
from rich.console import Console

from tests.report.records import varied, write_job
from wavespeed_runner.metrics.forks import find_forks
from wavespeed_runner.metrics.quality import summarize_metrics
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.console import show
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.page.data import page_data
from wavespeed_runner.report.page.images import album
from wavespeed_runner.sweeps.progress import Progress
from wavespeed_runner.sweeps.status import as_outcome

FORKED = [*[0.99] * 44, 0.98, 0.98, 0.52, 0.6]
"""Two forks of 48 images, which decide the mean."""
SENTENCE = "2 of 48 prompts became another image (SSIM below 0.9); without them the mean SSIM is 0.9896."


def with_images(record: dict[str, Any], ssims: list[float], *, seeds: int = 1) -> dict[str, Any]:
    """The record with an image for each SSIM, so many of each prompt."""
    made = varied(record, ["x=1"])
    first = made["samples"][0]
    made["samples"] = [
        {**deepcopy(first), "prompt": f"prompt {number // seeds}", "seed": number % seeds}
        | {"quality": {"mae": 1.0, "mae_similarity": 1 - 1 / 255, "ssim": ssim, "psnr": 30.0}}
        for number, ssim in enumerate(ssims)
    ]
    metrics = [sample["quality"] for sample in made["samples"]]
    made["quality"] = {**summarize_metrics(metrics), "forks": find_forks(ssims).count}
    return made


def printed(record: dict[str, Any]) -> list[str]:
    file = io.StringIO()
    show(record_from_data(record), Path("runs"), Console(file=file, width=80))
    lines = file.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    return lines


def joined(lines: list[str]) -> str:
    """As one line with single spaces, wherever it was wrapped."""
    return " ".join(" ".join(lines).split())


def test_the_console_says_what_images_a_mean_is_of(record: dict[str, Any]) -> None:
    lines = printed(with_images(record, FORKED))
    at = next(number for number, line in enumerate(lines) if line.startswith("SSIM, mean (worst)"))
    rows = [" ".join(line.split()) for line in lines[at : at + 5]]
    assert rows == [
        "SSIM, mean (worst) 0.9717 (0.5200)",
        "95 % interval, 48 prompts 0.9440 to 0.9898",
        "median (10th percentile) 0.9900 (0.9900)",
        "forks: below 0.9 2 of 48",
        "MAE similarity, mean (worst) 0.9961 (0.9961)",
    ]
    assert SENTENCE in joined(lines)
    calm = printed(with_images(record, [0.99, 0.98]))
    assert "median (10th percentile) 0.9850 (0.9810)" in joined(calm)
    assert not any("forks" in line or "became" in line for line in calm)


def test_several_images_of_a_prompt_are_counted_as_images(record: dict[str, Any]) -> None:
    lines = joined(printed(with_images(record, FORKED, seeds=2)))
    assert "2 of 48 images became another image (SSIM below 0.9); without them" in lines
    one = with_images(record, [*[0.99] * 20, 0.5])
    for sample in one["samples"]:
        sample["frames"] = 9
    assert "1 of 21 prompts became another video (SSIM below 0.9); without it" in joined(printed(one))


def test_a_record_of_an_earlier_version_has_no_spread(record: dict[str, Any]) -> None:
    made = with_images(record, [0.99, 0.98])
    del made["quality"]["forks"]
    for metric in ("mae", "mae_similarity", "ssim", "psnr"):
        del made["quality"][metric]["median"], made["quality"][metric]["p10"]
    assert not any("median (10th" in line for line in printed(made))
    assert "median" not in to_builtins(record_from_data(made))["quality"]["ssim"], "and none is invented"


@pytest.fixture
def jobs(tmp_path: Path, record: dict[str, Any]) -> Path:
    """Three jobs: forked, without forks, all forks."""
    for number, ssims in enumerate((FORKED, [0.99] * 12, [0.7] * 12)):
        made = with_images(record, ssims)
        made["overrides"] = [f"cache.residual_diff_threshold={number}"]
        write_job(tmp_path / str(number), made)
    return tmp_path


def test_reports_name_the_jobs_whose_mean_is_decided_by_forks(jobs: Path) -> None:
    sweep = collect(jobs)
    text = report_md(sweep)
    sentence = "A few forks (SSIM below 0.9) decide the mean SSIM of 1 job: 0 (2 of 48, without "
    assert f"- {sentence}them 0.9896)." in text
    lines = [line.split(" | ") for line in text.splitlines() if line.startswith(("| **", "| 0", "| 1", "| 2"))]
    assert [line[5:7] for line in lines] == [
        ["0.9900, 0.9900", "2 of 48"],
        ["0.9900, 0.9900", "0 of 12"],
        ["0.7000, 0.7000", "12 of 12"],
    ]
    rows = list(csv.DictReader(io.StringIO(results_csv(sweep))))
    assert [row["forks"] for row in rows] == ["2", "0", "12"]
    assert [row["ssim_without_forks"][:6] for row in rows] == ["0.9895", "", ""]
    assert [float(row["ssim_p10"]) for row in rows] == pytest.approx([0.99, 0.99, 0.7])
    html = page(sweep)
    assert f'<p class="note finding">{sentence}them 0.9896).</p>' in html
    assert '<td class="figure" data-sort="2">2<small>of 48</small></td>' in html
    assert "<small>median 0.9900</small><small>10 % 0.9900</small>" in html
    texts = [job["text"] for job in page_data(sweep, album(0), 0, jobs)["jobs"]]
    assert [(one["forks"], one["ssim_p10"]) for one in texts] == [
        ("2 of 48", "0.9900"),
        ("0 of 12", "0.9900"),
        ("12 of 12", "0.7000"),
    ]


def test_a_run_alone_says_it_in_its_own_words(tmp_path: Path, record: dict[str, Any]) -> None:
    write_job(tmp_path, with_images(record, FORKED))
    sweep = collect(tmp_path)
    html = page(sweep)
    assert SENTENCE in html and SENTENCE in report_md(sweep)
    assert "median 0.9900, 10th percentile 0.9900, worst image 0.5200" in html
    assert "<dt>forks</dt><dd>2 of 48</dd>" in html


def test_a_job_without_a_reference_has_no_forks(tmp_path: Path, record: dict[str, Any]) -> None:
    made = with_images(record, FORKED) | {"reference": {"kind": "none"}, "quality": None}
    write_job(tmp_path, made)
    (row,) = collect(tmp_path).rows
    assert row.forks is None
    assert next(csv.DictReader(io.StringIO(results_csv(collect(tmp_path)))))["forks"] == ""
    assert "forks" not in " ".join(printed(made)) and "became" not in page(collect(tmp_path))


def test_the_table_of_a_sweep_counts_forks(record: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    outcomes = {
        number: as_outcome(record_from_data(with_images(record, ssims)))
        for number, ssims in enumerate((FORKED, [0.99] * 12))
    }
    jobs: Any = [SimpleNamespace(number=number, overrides=[f"steps={number}"], plan=1, skipped="") for number in (0, 1)]
    Progress(Path("sweep"), jobs, ["steps"], outcomes).end()
    said = capsys.readouterr().out
    assert "0.9717 (2 forks)" in said and "0.9900  " in said
    assert "decide the mean SSIM of 1 job: job 0 (2 of 48, without them 0.9896)." in joined([said])
