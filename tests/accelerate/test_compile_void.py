"""A timing during which something was compiled is void: no speedup, and everything that shows a time says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.accelerate.compile_runs import Run, run, without_rules
from wavespeed_runner.records.file import parse_record
from wavespeed_runner.records.summary import summarize_record
from wavespeed_runner.report import console
from wavespeed_runner.report.remarks import describe_compiling
from wavespeed_runner.sweeps.status import as_outcome

__all__ = ["run", "without_rules"]


@pytest.mark.usefixtures("without_rules")
def test_without_a_warm_up_compiling_is_timed_and_the_timing_is_void(run: Run, tmp_path: Path) -> None:
    record = run("steps=2", "measure.warmup=0", "measure.reference=true", "cache=fbcache")
    timing = record["timing"]
    assert timing["speedup"] is None and timing["median"] > 0 and "compile_seconds" not in timing
    assert timing["void"] == record["samples"][0]["timing_void"]
    assert "while it was timed" in timing["void"]
    (warning,) = [text for text in record["warnings"] if "void" in text]
    assert timing["void"] in warning and "rerun=true" in warning


def void_record(finished: tuple[Path, dict[str, Any]]) -> Any:
    record = dict(finished[1])
    record["timing"] = {**record["timing"], "void": "compiled again: Block: a guard", "speedup": None}
    record["timing"] |= {"first_call": 12.0, "compile_seconds": 11.5}
    return record


def test_reports_leave_a_void_time_out_and_say_why(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    import json

    from wavespeed_runner.report.collect import collect
    from wavespeed_runner.report.csv_columns import COLUMNS

    data = void_record(finished)
    record = parse_record(json.dumps(data).encode())
    summary = summarize_record(record)
    assert summary.seconds is None and summary.speedup is None and summary.quality
    outcome = as_outcome(record)
    assert outcome.seconds is None and outcome.speedup is None
    text = Console(width=120, record=True)
    console.show(record, finished[0], text)
    shown = text.export_text()
    assert "void: compiled meanwhile" in shown and "12.00 s / 11.50 s" in shown and "first call" in shown
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "record.json").write_text(json.dumps(data))
    sweep = collect(tmp_path)
    (row,) = sweep.rows
    cells = {column.name: column.value(row) for column in COLUMNS if column.name in ("timing_void", "compile_seconds")}
    assert cells == {"timing_void": "compiled again: Block: a guard", "compile_seconds": 11.5}
    void, first = describe_compiling(sweep.rows)
    assert "These timings are void" in void and "a guard" in void
    assert "12.0 s, 11.5 s of it compiling" in first
    assert row.front is False


def test_the_void_timing_of_any_repetition_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when another shape comes up in the middle of a run."""
    import torch

    from wavespeed_runner.stages import denoise

    generate, calls = denoise.generate, []

    def reset_in_between(*args: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:  # the warm-up and the first repetition are over
            torch._dynamo.reset()
        return generate(*args, **options)

    monkeypatch.setattr(denoise, "generate", reset_in_between)
    record = run("steps=2", "measure.repeats=3")
    assert len(calls) == 4 and "while it was timed" in record["timing"]["void"]
    assert "FluxTransformerBlock" in record["timing"]["void"] or "FluxSingle" in record["timing"]["void"]
