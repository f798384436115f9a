"""`results.csv`, `report.md`, and the command that writes the whole report."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from copy import deepcopy
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.report.records import study, varied, write_job, write_sweep
from wavespeed_runner.cli.main import main
from wavespeed_runner.media.images import read_png
from wavespeed_runner.report.collect import collect
from wavespeed_runner.report.csv_columns import COLUMNS
from wavespeed_runner.report.csv_file import documentation, results_csv
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.remarks import APART, BUSIER

Finished = tuple[Path, dict[str, Any]]
KEY = "cache.residual_diff_threshold"
DOCS = Path(__file__).parents[2] / "docs"


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(results_csv(collect(folder)))))


def cells(markdown: str, title: str) -> list[list[str]]:
    """The rows of the table below a title."""
    part = markdown.partition(f"## {title}\n")[2].partition("\n## ")[0]
    return [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("|")][2:]


def test_the_documentation_is_made_from_the_columns() -> None:
    assert (DOCS / "results_csv.md").read_text(encoding="utf-8") == documentation(), (
        "write it again with documentation()"
    )
    assert len({column.name for column in COLUMNS}) == len(COLUMNS)


def test_a_row_of_the_table_says_what_the_record_says(finished: Finished) -> None:
    folder, record = finished
    (row,) = table(folder)
    timing, environment = record["timing"], record["environment"]
    expected = {
        "status": "completed",
        "reason": "",
        "model": "flux (tiny)",
        "setting": "fbcache",
        "steps": "6",
        "reference_steps": "6",
        "reference_sampler": "default",
        "pictures": "2",
        "prompts": "2",
        "seconds": repr(timing["median"]),
        "seconds_p90": repr(timing["p90"]),
        "seconds_mad": repr(timing["mad"]),
        "first_call_seconds": repr(timing["first_call"]),
        "reference_seconds": repr(timing["reference_median"]),
        "speedup": repr(timing["speedup"]),
        "same_run": "1",
        "computed_share": repr(record["engaged"]["cache"]["flop_share"]),
        "hit_rate": repr(record["cache"]["hit_rate"]),
        "mae_worst": repr(record["quality"]["mae"]["worst"]),
        "ssim_worst": repr(record["quality"]["ssim"]["worst"]),
        "ssim_median": repr(record["quality"]["ssim"]["median"]),
        "mae_p10": repr(record["quality"]["mae"]["p10"]),
        "forks": repr(record["quality"]["forks"]),
        "ssim_without_forks": "",
        "ssim_noise_floor": "",
        "identical_pictures": "0",
        "rival": "0",
        "front": str(int(timing["median"] < timing["reference_median"])),
        "never_hit": "0",
        "beaten_by_fewer_steps": "",
        "best_rival": "",
        "device": environment["device_name"],
        "torch": environment["versions"]["torch"],
        "fingerprint": record["fingerprint"],
    }
    assert {name: row[name] for name in expected} == expected
    assert float(row["psnr"]) == pytest.approx(record["quality"]["psnr"]["mean"])


def test_the_table_has_every_job_and_swept_key(tmp_path: Path, finished: Finished) -> None:
    rows = table(study(tmp_path, finished[1]))
    assert len(rows) == 12 and list(rows[0])[:4] == ["job", f"axis:{KEY}", "axis:cache", "axis:steps"]
    assert [row[f"axis:{KEY}"] for row in rows][:3] == ["0.0", "0.01", "0.02"]
    assert [row["steps"] for row in rows[6:9]] == ["7", "14", "21"] and rows[6]["rival"] == "1"
    assert rows[0]["ssim_noise_floor"] == "0.997"
    assert (rows[10]["status"], rows[10]["reason"], rows[10]["seconds"]) == ("skipped", "rule x: 8 is too much", "")


def test_the_report_for_pull_requests(tmp_path: Path, finished: Finished) -> None:
    text = report_md(collect(study(tmp_path, finished[1])))
    rows = cells(text, "Results")
    assert len(rows) == 9
    setting, time, speedup, share, ssim, spread, forks, worst, *_, verdict = rows[1]
    assert (setting, time, speedup, share) == ("**0.01**", "0.600", "3.33x", "50 %")
    assert ssim == "0.9795 (0.9790 to 0.9800)" and worst == "0.9790 (a blue square, seed 0)"
    assert (spread, forks) == ("0.9795, 0.9791", "0 of 2")
    assert verdict == "better than 14 steps" and rows[6][-1] == "(fewer steps)"
    assert "SSIM 0.9970" in text and "12 jobs: 9 completed" in text and "Not finished yet." in text
    assert "```sh\npython -m wavespeed_runner -m cache=fbcache" in text
    assert cells(text, "Skipped") == [["1", "rule x: 8 is too much", "8"]]
    assert cells(text, "Without a result")[0][2:] == [
        "failed",
        "stage denoise: OutOfMemoryError: out of &#124; &lt;b&gt;memory&lt;/b&gt;",
    ]
    assert finished[1]["environment"]["versions"]["torch"] in text.partition("## Environment")[2]


def test_a_strangers_text_stays_text(tmp_path: Path, finished: Finished) -> None:
    made = deepcopy(finished[1])
    for sample in made["samples"]:
        sample["prompt"] = "<img src=x> @everyone [a](b) | `c` *d* #1 \x1b[31m"
    write_job(tmp_path, made)
    text = report_md(collect(tmp_path))
    (row,) = cells(text, "Results")
    assert len(row) == 10, "the bar is no new cell"
    assert not re.search(r"<img|@|\[a\]|`c`|\*d\*|#1 |\x1b", row[7])


def test_many_jobs_do_not_make_it_longer_than_github_takes(tmp_path: Path, finished: Finished) -> None:
    for number in range(300):
        made = varied(finished[1], ["cache=fbcache", f"{KEY}={number}"], seconds=1 + number, ssim=0.5)
        write_job(tmp_path / str(number), made)
    text = report_md(collect(tmp_path))
    assert len(text) < 65536 and len(cells(text, "Results")) == 80 and "220 of 300 jobs are not shown here" in text
    assert cells(text, "Results")[0][0] == "**0**"


def test_the_command_writes_its_files_and_says_so(
    tmp_path: Path, finished: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = study(tmp_path / "sweep", finished[1]), tmp_path / "elsewhere"
    assert main(["report", str(folder), f"out={out}"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"flux (tiny): {KEY}: 12 jobs: 9 completed, 1 failed, 1 skipped, 1 missing"
    assert said[1] == "  9 (7) failed: stage denoise: OutOfMemoryError: out of | <b>memory</b>"
    names = ("results.csv", "report.md", "report.png", "report.html")
    assert said[2:] == [str(out / name) for name in names]
    assert sorted(path.name for path in out.iterdir()) == sorted(names), "whole files and nothing else"
    assert not (folder / "report.md").exists()
    assert read_png(out / "report.png")[0].shape[1] > 1500
    assert main(["report", str(folder)]) == 0 and (folder / "report.md").read_text() == (out / "report.md").read_text()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ([], "the following arguments are required: DIR"),
        (["a", "b"], "b: one argument too many"),
        (["a", "out="], "out=: a value is needed"),
        (["a", "out=b", "out=c"], "out=c: out is given twice"),
        (["a", "--wrong"], "--wrong: no such flag"),
        (["a", "ot=x"], "ot=x: no such key (did you mean 'out'?)"),
        (["a", "width=3"], "width=3: no such key (allowed: against, config_dir, out)"),
        (["a", f"out={__file__}"], f"out={__file__}: is a file; give a folder"),
        (["nowhere"], "nowhere: no such folder"),
    ],
)
def test_a_wrong_command_is_one_line(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {said}") and told.count("\n") == 1


def test_a_link_that_leads_to_itself_is_no_folder_to_write_into(
    finished: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "z"
    link.symlink_to("z")
    for out in (link, link / "below"):
        assert main(["report", str(finished[0]), f"out={out}"]) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and f"out={out}: Too many levels of symbolic links; give a folder" in said
    assert link.is_symlink()


def test_a_folder_that_cannot_be_written_is_one_line(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(finished[0]), "out=/proc/nowhere"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "out=DIR" in said and "outputs=" not in said


def test_a_folder_may_be_called_like_a_key(
    tmp_path: Path, finished: Finished, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job(tmp_path / "seed=1", finished[1])
    monkeypatch.chdir(tmp_path)
    assert main(["report", "seed=1"]) == 0 and (tmp_path / "seed=1" / "report.html").is_file()
    assert capsys.readouterr().err == ""


def test_skipped_settings_are_counted_and_named(tmp_path: Path, finished: Finished) -> None:
    write_job(tmp_path / "0", varied(finished[1], ["steps=28"]))
    jobs = [{"overrides": ["steps=28"]}]
    jobs += [{"overrides": [f"steps={-number}"], "skipped": "at least 1 is needed"} for number in range(12)]
    write_sweep(tmp_path, jobs, ["steps"])
    (row,) = cells(report_md(collect(tmp_path)), "Skipped")
    assert row == ["12", "at least 1 is needed", "0; -1; -2; -3; -4; -5; -6; -7 and 4 more"]


def test_speedups_against_a_reference_of_another_time_are_marked(tmp_path: Path, finished: Finished) -> None:
    for number, same in enumerate((True, False)):
        made = varied(finished[1], [f"{KEY}={number}"], seconds=1.0)
        made["timing"]["same_run"] = same
        for sample in made["samples"]:
            sample["timed_together"] = same
        write_job(tmp_path / str(number), made)
    sweep = collect(tmp_path)
    text, shown = report_md(sweep), page(sweep)
    assert [row[2] for row in cells(text, "Results")] == ["2.00x", "~2.00x"] and text.count(APART) == 1
    assert "measure.in_turn=true" in APART and "~2.00\u00d7" in shown
    assert f'<p class="note finding">{APART}</p>' in shown
    assert [row["same_run"] for row in table(tmp_path)] == ["1", "0"]
    names = figure(sweep).axes[0].get_legend_handles_labels()[1]
    assert "fbcache" in names and "fbcache, ~ timed apart" in names
    for sample in made["samples"]:  # a guess all the same: then it was the machine
        sample["timed_together"] = True
    write_job(tmp_path / "1", made)
    sweep = collect(tmp_path)
    assert APART not in report_md(sweep) and BUSIER in report_md(sweep) and BUSIER in page(sweep)
    made["timing"]["same_run"] = True
    write_job(tmp_path / "1", made)
    sweep = collect(tmp_path)
    assert not any(text in report_md(sweep) + page(sweep) for text in (APART, BUSIER))


def test_help_answers_without_torch() -> None:
    program = (
        "import sys; from wavespeed_runner.cli.main import main; code = main(['report', '--help']); "
        "sys.exit(code or any(name in sys.modules for name in ('torch', 'hydra', 'matplotlib', 'scipy')))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and "python -m wavespeed_runner report DIR" in run.stdout
