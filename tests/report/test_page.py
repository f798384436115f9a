"""`report.html`: what it holds, and that text in a record can do no harm."""

from __future__ import annotations

import base64
import hashlib
import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.report.html_parts import Parts, data_of
from tests.report.small_sweep import HOSTILE, SAMPLERS, THRESHOLDS, hostile
from wavespeed_runner.report.markdown import report_md
from wavespeed_runner.report.page import images as images
from wavespeed_runner.report.page import page
from wavespeed_runner.report.page.texts import texts
from wavespeed_runner.report.rows import Sweep


def test_nothing_is_fetched_and_only_its_own_scripts_run(sweep: Sweep) -> None:
    made = Parts(page(sweep))
    assert made.fetched == []
    programs = [text for attributes, text in made.scripts if attributes.get("type") != "application/json"]
    assert len(programs) == 2 and "plotly.js (basic - minified)" in programs[0][:100]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in programs]
    assert made.policy.startswith("default-src 'none'; script-src " + " ".join(f"'sha256-{one}'" for one in hashes))
    assert "connect-src" not in made.policy and "http" not in made.policy


def test_the_licence_of_plotly_goes_with_it() -> None:
    home = Path(images.__file__).parent
    assert "MIT" in (home / "plotly-basic.LICENSE").read_text(encoding="utf-8")
    version = re.search(r"v(\d+\.\d+\.\d+)", (home / "plotly-basic.min.js").read_text(encoding="utf-8")[:200])
    assert version and version[1] in (home / "__init__.py").read_text(encoding="utf-8"), "the docstring names another"


def test_every_job_has_its_figures_trace_and_config(sweep: Sweep) -> None:
    found = data_of(page(sweep))
    assert [axis["values"] for axis in found["axes"]] == [list(THRESHOLDS), list(SAMPLERS)]
    for row, shown in zip(sweep.rows, found["jobs"], strict=True):
        assert shown["config"] == row.config_yaml and shown["axes"] == row.axes
        if row.status != "completed":
            assert shown["samples"] == [] and shown["reason"] == row.reason
            continue
        assert row.record and row.seconds
        assert shown["seconds"] == [row.seconds.value, row.seconds.low, row.seconds.high]
        assert shown["quality"]["ssim"][0] == row.quality["ssim"].mean.value
        for sample, original in zip(shown["samples"], row.record.samples, strict=True):
            (line,) = sample["trace"]
            assert line["computed"] == "".join(str(int(step.computed)) for step in original.steps)
            assert line["signal"][1:] == pytest.approx([step.signal for step in original.steps[1:]], rel=1e-3)
            assert line["threshold"] == row.record.config["cache"]["criterion"]["threshold"]
    front = [job["job"] for job in found["jobs"] if "ssim" in job["fronts"]["seconds"]]
    assert front == [row.job for row in sweep.rows if row.front]


def test_a_job_says_what_took_effect(sweep: Sweep) -> None:
    row = next(row for row in sweep.rows if row.record)
    assert row.record
    record = deepcopy(row.record)
    modules = {"transformer": {"Block<b>": 8}}
    counts = {"graphs": 3, "graph_breaks": 0, "recompiles": 1, "fallbacks": 0, "cache_hits": 0, "cache_misses": 3}
    record.engaged.compile = {"backend": "inductor", "modules": modules, "seconds": 2.0, **counts}
    changed = replace(sweep, rows=[replace(row, record=record)])
    (job,) = data_of(page(changed))["jobs"]
    what = "inductor: 8 modules of transformer: 3 graphs, 0 graph breaks, 1 recompile, 2.0 s of compiling"
    assert job["engaged"] == [["compile", what]]
    assert f"## What took effect\n\n- `{row.job}` {row.label}, compile: {what}\n" in report_md(changed)
    assert "took effect" not in report_md(sweep)


def test_a_job_with_several_ranks_says_what_they_did(sweep: Sweep) -> None:
    row = next(row for row in sweep.rows if row.record)
    assert row.record
    record = deepcopy(row.record)
    record.engaged.parallel = {
        "kind": "ulysses",
        "ranks": [{"rank": rank, "device": "cpu", "device_name": "CPU", "host": "h"} for rank in range(2)],
        "attention": {"divided": {"FluxAttnProcessor": 8}, "local": {}},
        "messages": {"all_to_all": {"calls_per_step": 16.0, "bytes_per_step": 2e6}},
        "difference": {"alone": 2e-7, "between ranks": 0.0},
    }
    (job,) = data_of(page(replace(sweep, rows=[replace(row, record=record)])))["jobs"]
    what = "ulysses: 2 ranks (CPU); attention of FluxAttnProcessor (8) divided; 16 calls and 2 MB sent a step; "
    assert job["engaged"] == [["parallel", f"{what}2.0e-07 from one rank alone"]]


def test_axes_are_called_as_in_the_console(sweep: Sweep) -> None:
    axes = {"cache.residual_diff_threshold": "0.1", "cache.start": "2", "stages.cache.start": "3", "a.start": "4"}
    text = page(replace(sweep, axes=list(axes), rows=[replace(row, axes=axes) for row in sweep.rows]))
    names = ["residual_diff_threshold", "cache.start", "stages.cache.start", "a.start"]
    assert [axis["short"] for axis in data_of(text)["axes"]] == names


def test_of_a_single_run_only_what_is_known_is_told(sweep: Sweep) -> None:
    def facts(**known: Any) -> str:
        text = page(replace(sweep, rows=[replace(sweep.rows[0], axes={}, **known)], axes=[]))
        return text[text.index('<dl class="facts">') : text.index("</header>")]

    assert "50 % of the reference's work computed" in facts(computed_share=0.5).replace("&#39;", "'")
    assert "computed" not in facts(computed_share=None)
    assert "the cache never hit" in facts(computed_share=1.0, never_hit=True)


def test_the_table_stands_without_scripts(sweep: Sweep) -> None:
    made = Parts(page(sweep))
    assert len(made.rows) == 6
    for row, cells in zip(sweep.rows, made.rows, strict=True):
        assert row.status in cells and row.axes["sampler"] in cells
        text = texts(row, (1000.0, "ms"))
        assert text["time"] in cells and text["ssim"] in cells
    assert "stage denoise: the latents are not finite" in made.rows[5]


def test_each_job_has_its_own_reference(sweep: Sweep) -> None:
    rows = [replace(row, reference_seconds=0.5) for row in sweep.rows[:4]]
    other = replace(rows[3], reference_seconds=0.8, compared_with="other")
    same = [replace(row, compared_with="one") for row in rows]
    text = page(replace(sweep, rows=same))
    assert {job["reference"]["text"] for job in data_of(text)["jobs"]} == {"500 ms"}
    assert "median time per image without acceleration" in text
    text = page(replace(sweep, rows=[*same[:3], other]))
    assert [job["reference"]["seconds"] for job in data_of(text)["jobs"]] == [0.5, 0.5, 0.5, 0.8]
    assert "median time per image without acceleration" not in text, "there is more than one reference"


def test_an_unfinished_sweep_says_what_it_waits_for(sweep: Sweep) -> None:
    nothing: dict[str, Any] = {"record": None, "seconds": None, "quality": {}, "computed_share": None, "speedup": None}
    waiting = [replace(sweep.rows[0], job="6", status="missing", **nothing)]
    waiting += [replace(sweep.rows[0], job=str(7 + n), status="running", **nothing) for n in range(2)]
    text = page(replace(sweep, rows=[*sweep.rows, *waiting], finished=False))
    assert "unfinished: 2 running, 1 missing" in text and "6 of 9" in text
    alone = page(replace(sweep, rows=waiting, finished=False))
    assert len(Parts(alone).rows) == 3 and data_of(alone, "album") == []


def test_failures_are_grouped_by_their_reason(sweep: Sweep) -> None:
    skipped = [
        replace(sweep.rows[5], job=str(number), status="skipped", reason="needs a <GPU>") for number in range(6, 10)
    ]
    text = page(replace(sweep, rows=[*sweep.rows, *skipped]))
    part = text[text.index('<section id="problems">') : text.index('<section id="environment">')]
    assert part.count("needs a &lt;GPU&gt;") == 1 and "skipped <b>4</b>" in part and "failed <b>1</b>" in part


def test_markup_in_a_record_stays_text(sweep: Sweep) -> None:
    made = Parts(page(hostile(sweep)))
    assert len(made.scripts) == 4 and made.fetched == []
    assert [HOSTILE in " ".join(cells) for cells in made.rows] == [True] * 6, "autoescaped, and 7 * 7 not computed"
    assert data_of(page(hostile(sweep)))["jobs"][0]["config"] == HOSTILE


def test_numbers_and_letters_that_files_cannot_have(sweep: Sweep) -> None:
    record = deepcopy(sweep.rows[0].record)
    assert record
    record.samples[0].prompt = "half a pair \ud800"
    record.samples[0].steps[2].signal = float("nan")
    text = page(replace(sweep, rows=[replace(sweep.rows[0], record=record, computed_share=float("inf"))]))
    text.encode("utf-8")
    found = data_of(text)["jobs"][0]
    assert found["share"] is None and found["samples"][0]["trace"][0]["signal"][2] is None
    for damaged in (3, "text", {"threshold": "text"}, {"threshold": 10**400}):  # a config is plain data
        record.config["cache"]["criterion"] = damaged
        samples = data_of(page(replace(sweep, rows=[replace(sweep.rows[0], record=record)])))["jobs"][0]["samples"]
        assert samples and samples[0]["trace"] == [], damaged
