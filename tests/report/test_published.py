"""What others have published, beside one's own sweep: which rows, and that no figure of the sweep changes by them."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.cli.main import main
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.report.collect import add_published, collect
from wavespeed_runner.report.csv_file import results_csv
from wavespeed_runner.report.figure import figure
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import page
from wavespeed_runner.report.published import explain_published, find_published, list_bands, read_published
from wavespeed_runner.report.published_text import list_overrides, published_md
from wavespeed_runner.report.rows import Sweep

FLUX = {"model.repo": "black-forest-labs/FLUX.1-dev", "width": 1024, "height": 1024, "num_frames": None, "steps": 28}
"""The setting of most rows: here of a tiny model's record, that took the name and the size."""


def put(record: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The record at another setting; its reference has the same steps."""
    made = deepcopy(record)
    for key, value in changes.items():
        node = made["config"]["model"] if key.startswith("model.") else made["config"]
        last = key.removeprefix("model.")
        node[last] = value
    made["reference"]["steps"] = made["config"]["steps"]
    (made["config"].get("measure") or {}).pop("reference_steps", None)
    return made


def at_setting(sweep: Sweep, **changes: Any) -> Sweep:
    """The sweep as if it had run at a published setting."""
    rows = []
    for row in sweep.rows:
        assert row.record is not None
        from msgspec import to_builtins

        data = json.loads(json.dumps(to_builtins(row.record), default=str))
        rows.append(replace(row, record=record_from_data(put(data, **{**FLUX, **changes}))))
    return replace(sweep, rows=rows)


def test_every_row_names_its_source_and_has_one_time() -> None:
    for row in read_published():
        assert row.source.startswith("https://github.com/") and row.by and row.hardware and row.repos
        assert (row.seconds is None) != (row.seconds_per_step is None) and (row.speedup is None or row.speedup > 0.5)
        assert "/blob/main/" not in row.source, "a file that changes: name its commit"
        assert set(row.uses) <= {"cache", "quant", "compile", "attention", "parallel", "framework"}


def test_published_speedups_are_those_of_the_published_seconds() -> None:
    for row in read_published():
        first = next(
            one for one in read_published() if (one.source, one.repos, one.steps) == (row.source, row.repos, row.steps)
        )
        if row.speedup and not row.is_ratio and row.seconds and first.seconds and not first.uses:
            assert row.speedup == pytest.approx(first.seconds / row.seconds, rel=0.02), row.method


def test_the_document_is_generated() -> None:
    assert (CONF.parent / "docs" / "published.md").read_text(encoding="utf-8") == published_md()


def test_the_times_of_a_model_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "--published", "flux2"]) == 0
    said = capsys.readouterr().out
    heads = re.findall(r"^## (.*)", said, re.MULTILINE)
    assert heads == ["black-forest-labs/FLUX.2-dev, size not stated, 50 steps"] and "FLUX.1" not in said
    assert all(line in published_md() for line in said.splitlines())
    assert published_md(["THUDM/CogVideoX-5b", "Qwen/Qwen-Image"]).count("\n## ") == 2


def test_a_model_without_published_times_is_told_which_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["support", "--published", "sdxl"]) == 0
    assert capsys.readouterr().out == (
        "No published time of stabilityai/stable-diffusion-xl-base-1.0 is known here. There are some of flux, flux2, "
        "qwen_image, z_image_turbo, hunyuan_video, wan21_i2v_480p, cogvideox.\n"
    )


def test_the_command_of_each_table_is_planned(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {tuple(list_overrides(row)) for row in read_published()}
    assert len(commands) >= 9 and all(commands)
    for command in commands:
        assert main([*command, "prompt=x", "dry_run=true"]) == 0
        assert f"{dict(o.split('=') for o in command).get('steps', '')} steps" in capsys.readouterr().out


def test_rows_of_the_same_model_and_setting_are_found(record: dict[str, Any]) -> None:
    def seconds(**changes: Any) -> set[float | None]:
        return {row.seconds for row in find_published([record_from_data(put(record, **{**FLUX, **changes}))])}

    assert {26.36, 17.01, 3.90, 1.63, 2.38} <= seconds()
    assert 24.85 not in seconds(), "its source states no steps"
    assert seconds(steps=27) == seconds(width=512) == seconds(**{"model.repo": "me/mine"}) == set()
    assert seconds(steps=50) == {7.73}, "a size that the source does not state is not compared"


def test_weights_that_are_nobodys_are_told(record: dict[str, Any]) -> None:
    def explain(*inits: str | None) -> str:
        records = [record_from_data(put(record, **FLUX, **{"model.init": init})) for init in inits]
        return explain_published(records, find_published(records)[:1])

    assert explain("pretrained").endswith(
        "1 published row of black-forest-labs/FLUX.1-dev at this size and number of steps"
    )
    assert explain("pretrained", "tiny").endswith("; the weights of some jobs are none of theirs: init=tiny")
    assert explain("tiny").endswith("; the weights here are none of theirs: init=tiny")


def test_the_steps_are_those_of_the_reference(record: dict[str, Any]) -> None:
    made = put(record, **FLUX)
    made["config"]["steps"] = 10
    assert len(find_published([record_from_data(made)])) == len(find_published([record_from_data(put(record, **FLUX))]))


def test_a_band_is_a_published_speedup_of_the_runs_own_reference() -> None:
    rows = [row for row in read_published() if row.by == "ParaAttention" and row.steps == 28]
    everything = {"cache", "quant", "compile", "parallel"}
    bands = {band.name: (band.low, band.high) for band in list_bands(rows, [2.0], everything)}
    sign = "\N{MULTIPLICATION SIGN}"
    assert bands[f"cache + quantization + compile 3.48{sign}"] == pytest.approx((2 / 3.48, 2 / 3.48))
    assert bands[f"cache + quantization + compile + several GPUs 5.35 to 6.75{sign}"] == pytest.approx(
        (2 / 6.75, 2 / 5.35)
    )
    assert [band.name for band in list_bands(rows, [2.0], {"cache"})] == [f"cache 1.21 to 1.91{sign}"]
    assert list_bands(rows, [], everything) == []


def test_the_reports_show_them_and_no_figure_of_the_sweep_changes(sweep: Sweep) -> None:
    own = at_setting(sweep)
    beside = add_published(own)
    assert beside.rows == own.rows and results_csv(beside) == results_csv(own)
    assert "Published by others" not in report_md(own) and "Published by others" not in page(own)
    for text in (report_md(beside), page(beside)):
        assert "Published by others" in text and "First Block Cache 0.08" in text and "in no Pareto front" in text
        assert "at this size and number of steps; the weights here are none of theirs: init=tiny." in text
    counts = [len(figure(one).axes[0].patches) for one in (own, beside)]
    assert counts[1] - counts[0] == 1, "a band of caches alone: the sweep uses nothing else"
    names, found = zip(*[(text.get_text(), text) for text in figure(beside).axes[0].texts], strict=True)
    assert any(name.startswith("cache 1.21 to 1.91") for name in names) and found


def test_where_nothing_is_published_that_is_said(sweep: Sweep) -> None:
    beside = add_published(at_setting(sweep, steps=27))
    sentence = "no published row of black-forest-labs/FLUX.1-dev at this size and number of steps; "
    assert beside.published == [] and beside.published_note.startswith(sentence)
    assert "at other settings are in docs/published.md" in report_md(beside) and "no published row" in page(beside)


def test_the_command(sweep_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(sweep_folder), f"out={tmp_path}", "against=published"]) == 0
    assert "  no published row of " in capsys.readouterr().out
    assert "no published row of " in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert main(["report", str(sweep_folder), f"out={tmp_path}"]) == 0
    assert "published" not in capsys.readouterr().out
    assert collect(sweep_folder).published_note == ""
    assert main(["report", str(sweep_folder), "against=theirs"]) == 2
    assert "against=theirs: published is what a sweep can be put beside" in capsys.readouterr().err
