"""Sweeps in one process: one model for all jobs, failures that cost one job only, memory that is freed, resume."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest

from tests.sweeps.small_sweep import failing, folders, records, statuses, sweep
from wavespeed_runner.cli.main import main
from wavespeed_runner.execution.runner import write_record
from wavespeed_runner.models import pipeline_call as call
from wavespeed_runner.models.weights import pretrained
from wavespeed_runner.report.remarks import APART


def test_one_model_is_loaded_for_all_jobs_and_the_reference_is_made_once(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = family()
    cached = [
        "seed=1",
        "measure=default",
        "cache=fbcache",
        "cache.residual_diff_threshold=0.1,0.5,0.9",
        "measure.warmup=0",
    ]
    assert main(sweep(tmp_path, *cached)) == 0
    assert calls.count("load") == 1 and calls.count("encode") == 1
    assert calls.count("denoise") == 4, "one reference, and each threshold"
    assert statuses(tmp_path) == {"0": "completed", "1": "completed", "2": "completed"}
    assert [r["samples"][0]["reference_source"] for r in records(tmp_path).values()].count("computed") == 1
    assert all(r["timing"]["same_run"] for r in records(tmp_path).values())


def test_the_next_model_is_loaded_after_the_last_one_is_gone(family: Any, tmp_path: Path) -> None:
    alive: list[weakref.ref[Any]] = []
    kept: list[list[bool]] = []

    def watched(*args: Any) -> Any:
        kept.append([reference() is not None for reference in alive])
        pipe = pretrained.load(*args)
        alive.append(weakref.ref(pipe.transformer))
        return pipe

    family(load=watched)
    # Written with the model last, and run with jobs of one model together.
    assert main(sweep(tmp_path, "seed=1,2", "model.dtype=float32,bfloat16")) == 0
    assert kept == [[], [False]], "two loads, and at the second one nothing of the first was left"
    assert [reference() for reference in alive] == [None, None]
    assert [records(tmp_path)[n]["config"]["model"]["dtype"] for n in "0123"] == ["float32", "bfloat16"] * 2


def test_a_failed_job_leaves_nothing_in_memory_and_the_others_finish(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alive: list[weakref.ref[Any]] = []
    at_load: list[bool] = []
    error: list[weakref.ref[Any]] = []

    class OutOfMemory(RuntimeError):
        """As torch.OutOfMemoryError, which is a RuntimeError too."""

    def load(*args: Any) -> Any:
        at_load.append(any(reference() is not None for reference in (*alive, *error)))
        pipe = pretrained.load(*args)
        alive.append(weakref.ref(pipe))
        alive.append(weakref.ref(pipe.transformer))
        return pipe

    def denoise(pipe: Any, *args: Any) -> Any:
        if len(alive) == 2 and not error:
            raised = OutOfMemory("CUDA out of memory. Tried to allocate 20.00 GiB")
            error.append(weakref.ref(raised))
            raise raised
        return call.denoise(pipe, *args)

    family(load=load, denoise=denoise)
    assert main(sweep(tmp_path)) == 1
    assert statuses(tmp_path) == {"0": "failed", "1": "completed", "2": "completed"}
    assert at_load == [False, False], "when the next job loaded, model and exception (with its frames) were gone"
    assert len(alive) == 4 and not any(reference() for reference in (*alive, *error))
    said = capsys.readouterr().out
    assert "1 failed" in said
    assert "job 0 (seed=1): stage denoise: OutOfMemory: CUDA out of memory. Tried to allocate 20.00 GiB" in said


@pytest.mark.parametrize("where", ["latents", "image"])
def test_a_result_that_is_not_a_number_is_a_failure_with_its_reason(
    family: Any, tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def overflowing(*args: Any) -> Any:
        pipe = pretrained.load(*args)
        decode, count = pipe.vae.decode, iter(range(10))
        pipe.vae.decode = lambda *a, **k: (decode(*a, **k)[0] * (float("nan") if next(count) == 1 else 1),)
        return pipe

    family(**({"denoise": failing(2, nan=True)} if where == "latents" else {"load": overflowing}))
    assert main(sweep(tmp_path)) == 1
    assert statuses(tmp_path) == {"0": "completed", "1": "failed", "2": "completed"}
    assert "not finite" in records(tmp_path)["1"]["error"]["message"]
    assert "job 1 (seed=2): stage" in capsys.readouterr().out
    family()
    assert main(sweep(tmp_path)) == 0 and set(statuses(tmp_path).values()) == {"completed"}, "nothing bad was stored"


def test_the_same_command_again_runs_only_what_is_missing(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family(denoise=failing(2, error=ValueError("boom")))
    assert main(sweep(tmp_path)) == 1
    before = {n: (folders(tmp_path)[0] / n / "record.json").stat().st_mtime_ns for n in ("0", "2")}
    capsys.readouterr()
    calls = family()
    assert main(sweep(tmp_path)) == 0
    assert calls == ["load", "encode", "denoise", "decode"] or calls == ["load", "denoise", "decode"]
    assert len(folders(tmp_path)) == 1 and set(statuses(tmp_path).values()) == {"completed"}
    assert before == {n: (folders(tmp_path)[0] / n / "record.json").stat().st_mtime_ns for n in ("0", "2")}
    assert "sweep of 3 jobs, 2 done before" in capsys.readouterr().out
    calls = family()
    assert main(sweep(tmp_path)) == 0 and calls == []
    assert main(sweep(tmp_path, "rerun=true")) == 0 and calls.count("denoise") == 3
    assert len(folders(tmp_path)) == 2, "a rerun is a sweep of its own"
    assert main(sweep(tmp_path, "seed=1,2")) == 0 and len(folders(tmp_path)) == 3, "other jobs are another sweep"


def test_interrupted_it_leaves_a_record_and_the_table_and_goes_on(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family(denoise=failing(2, error=KeyboardInterrupt()))
    assert main(sweep(tmp_path)) == 130
    said = capsys.readouterr()
    assert said.err == "error: interrupted; run the same command again to continue from the stored results\n"
    assert "1 interrupted" in said.out and "1 not run yet" in said.out
    assert statuses(tmp_path) == {"0": "completed", "1": "interrupted"}
    family()
    assert main(sweep(tmp_path)) == 0 and set(statuses(tmp_path).values()) == {"completed"}


def test_it_says_how_much_each_job_computed_and_which_caches_never_hit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cached = ["measure=default", "measure.warmup=0", "seed=1", "cache=fbcache", "cache.residual_diff_threshold=0,10"]
    assert main(sweep(tmp_path, *cached)) == 0
    said = capsys.readouterr().out
    found = [record["cache"] for record in records(tmp_path).values()]
    assert [one["hits"] > 0 for one in found] == [False, True]
    share = f"{100 * found[1]['computed'] / (found[1]['computed'] + found[1]['hits']):.0f} %"
    first, second = (line for line in said.splitlines() if line.startswith(("1/2", "2/2")))
    assert "the cache never hit" in first and f"{share} computed" in second
    assert "the cache never hit in job 0: cache.residual_diff_threshold must be above" in said and "100 %" in said


@pytest.mark.parametrize(("in_turn", "guesses"), [("false", True), ("true", False)])
def test_a_speedup_against_a_reference_of_another_process_is_a_guess_unless_they_take_turns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, in_turn: str, guesses: bool
) -> None:
    cached = ["measure=default", "measure.warmup=0", "seed=1", "cache=fbcache", f"measure.in_turn={in_turn}"]
    assert main(sweep(tmp_path, *cached, "cache.residual_diff_threshold=1")) == 0
    monkeypatch.setattr("wavespeed_runner.stages.denoise.PROCESS", "another")
    capsys.readouterr()
    assert main(sweep(tmp_path, *cached, "cache.residual_diff_threshold=2")) == 0
    said = capsys.readouterr().out
    assert (APART in said) is guesses
    assert all(record["timing"]["same_run"] is not guesses for record in records(tmp_path).values())


def test_records_are_written_seldom_while_a_job_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    def counted(place: Path, record: dict[str, Any]) -> None:
        written.append(place.name)
        write_record(place, record)

    monkeypatch.setattr("wavespeed_runner.execution.runner.write_record", counted)
    monkeypatch.setattr("wavespeed_runner.execution.runner.RECORD_S", 1000.0)
    assert main(sweep(tmp_path, "seed=1,100", "num_images_per_prompt=4")) == 0
    assert written == ["0", "0", "1", "1"], "at its start and at its end"
    assert len(records(tmp_path)["0"]["samples"]) == 4
