"""Timing of a run and its reference: repeats, runs timed in turn, and speedups that cannot be true."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from statistics import median
from time import time
from typing import Any

import pytest

from tests.conftest import CACHED, run_as_data
from wavespeed_runner.execution.conclusion import _list_doubts, _warn_if_too_fast
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.execution.sample_record import _in_turn
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.rules.check import Finding

Planned = Callable[..., Plan]


Finished = tuple[Path, dict[str, Any]]


def test_timing_is_consistent(finished: Finished) -> None:
    record, timing = finished[1], finished[1]["timing"]
    assert timing["raw"] == [s for sample in record["samples"] for s in sample["raw_seconds"]]
    assert timing["median"] == median(timing["raw"]) and timing["reference_median"] == median(timing["reference_raw"])
    assert timing["speedup"] == timing["reference_median"] / timing["median"]
    for sample in record["samples"]:
        assert 0 < sum(step["seconds"] for step in sample["steps"]) <= sample["seconds"]
    assert timing["first_call"] == record["samples"][0]["first_call"] and record["samples"][1]["first_call"] is None


def test_warm_up_and_repeats_are_generated_and_the_repeats_alone_are_timed(
    planned: Planned, family: Any, tmp_path: Path
) -> None:
    calls = family()
    record = run_as_data(planned("measure.warmup=2", "measure.repeats=3"), tmp_path, [])
    assert calls.count("denoise") == 5 and len(record["timing"]["raw"]) == 3
    assert record["timing"]["first_call"] not in record["timing"]["raw"]


@pytest.mark.parametrize(("later", "same_run"), [(60.0, True), (3600.0, False)])
def test_a_reference_of_an_early_job_of_a_long_sweep_is_not_timed_in_turn(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: float, same_run: bool
) -> None:
    first = run_as_data(planned(*CACHED), tmp_path / "first", [])
    assert first["timing"]["same_run"] is True
    monkeypatch.setattr("wavespeed_runner.stages.denoise.time", lambda: time() + later)
    second = run_as_data(planned(*CACHED, "cache.residual_diff_threshold=0.3"), tmp_path / "second", [])
    assert second["samples"][0]["reference_source"] == "store" and second["timing"]["same_run"] is same_run


@pytest.mark.parametrize(
    ("speedup", "flop_share", "casting", "ranks", "fair"),
    [
        (2.0, 0.5, None, 1, True),
        (2.25, 0.5, None, 1, True),
        (2.35, 0.5, None, 1, False),
        (2.35, 0.5, None, 2, True),
        (3.86, 1.0, None, 2, False),
        (2.2, 1.0, None, 2, True),
        (1.2, 1.0, None, 1, False),
        (4.0, 0.5, "float8_e4m3fn", 1, True),
        (14.6, 1.0, "float8_e4m3fn", 1, False),
        (14.6, 1.0, "float8_e4m3fn", 4, True),
        (0.5, 0.5, None, 1, True),
    ],
)
def test_a_speedup_above_what_was_left_out_is_a_guess_with_a_warning(
    finished: Finished,
    monkeypatch: pytest.MonkeyPatch,
    speedup: float,
    flop_share: float,
    casting: str | None,
    ranks: int,
    fair: bool,
) -> None:
    monkeypatch.setattr("wavespeed_runner.metrics.timing.TOO_FAST", 1.15)
    record = deepcopy(finished[1])
    record["engaged"]["cache"]["flop_share"] = flop_share
    record["config"]["memory"]["layerwise_casting"] = casting
    record["timing"] |= {"speedup": speedup, "same_run": True}
    if ranks > 1:
        record["config"]["parallel"] = {"name": "ulysses", "degree": ranks}
        record["engaged"]["parallel"] = {"ranks": [{"rank": rank} for rank in range(ranks)]}
    typed = record_from_data(record)
    warnings = _warn_if_too_fast(typed)
    assert typed.timing is not None and typed.timing.same_run is fair and bool(warnings) is not fair
    assert fair or f"{speedup:.2f} is not possible with {flop_share:.0%}" in warnings[0]


def test_a_doubt_without_a_way_out_does_not_end_as_if_one_followed() -> None:
    doubt = Finding(rule="a", verdict="unverified", message="it may fail", fix="", source="")
    warnings = _list_doubts([doubt, replace(doubt, fix="cache=none"), replace(doubt, verdict="good")])
    assert warnings == ["rule a: it may fail", "rule a: it may fail; cache=none"]


@pytest.mark.parametrize(
    ("in_turn", "advice"),
    [(False, "measure.in_turn=true times both again"), (True, "measure.in_turn=true is on, so only a quieter machine")],
)
def test_the_advice_for_a_guess_is_not_what_was_done(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, in_turn: bool, advice: str
) -> None:
    monkeypatch.setattr("wavespeed_runner.metrics.timing.TOO_FAST", 1.15)
    record = deepcopy(finished[1])
    record["config"]["measure"]["in_turn"] = in_turn
    record["timing"] |= {"speedup": 100.0, "same_run": True}
    (warning,) = _warn_if_too_fast(record_from_data(record))
    assert advice in warning


def test_in_turn_denoises_both_again_and_nothing_else(planned: Planned, family: Any, tmp_path: Path) -> None:
    cache = ProcessCache()
    run_as_data(planned(*CACHED), tmp_path / "first", [], cache=cache)
    calls = family()
    record = run_as_data(planned(*CACHED, "measure.in_turn=true"), tmp_path / "second", [], cache=cache)
    assert calls == ["denoise"] * 2
    assert [record["samples"][0][f"{of}source"] for of in ("", "reference_")] == ["computed", "computed"]
    assert record["timing"]["same_run"] is True


@pytest.mark.parametrize(
    ("timings", "expected"),
    [
        ([{"timed_by": "a", "timed_at": [5000.0, 9000.0]}, {"timed_by": "a", "timed_at": [0.0, 4990.0]}], True),
        ([{"timed_by": "a", "timed_at": [0.0, 1.0]}, {"timed_by": "a", "timed_at": [902.0, 903.0]}], False),
        ([{"timed_by": "a", "timed_at": [0.0, 1.0]}, {"timed_by": "b", "timed_at": [1.0, 2.0]}], False),
        ([{"timed_by": "a"}, {"timed_by": "a", "timed_at": [1.0, 2.0]}], True),
        ([{}, {}], False),
    ],
)
def test_timings_in_turn_may_each_take_long(timings: list[dict[str, Any]], expected: bool) -> None:
    assert _in_turn(timings) is expected
