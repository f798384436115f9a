"""Sweeps in one process: one model for all jobs, failures that cost one job only, memory that is let go, and resume."""

from __future__ import annotations

import json
import os
import resource
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.children import started
from wavespeed_runner.cli.main import main
from wavespeed_runner.errors import RunError
from wavespeed_runner.execution.runner import write_record
from wavespeed_runner.models import pipeline_call as call
from wavespeed_runner.models.weights import pretrained
from wavespeed_runner.storage.atomic import write_text
from wavespeed_runner.storage.store import Store
from wavespeed_runner.sweeps import folder, folder_choice, worker

LONG = 120
"""Seconds; far more than any of this takes."""


def sweep(home: Path, *overrides: str) -> list[str]:
    """Three jobs of one image each, without a reference; what is given later replaces what is here."""
    given = [
        "model.init=tiny", "device=cpu", "width=32", "height=32", "steps=4", "measure=none", "prompt='a red circle'",
        "seed=1,2,3", f"outputs={home / 'outputs'}",
    ]  # fmt: skip
    by_key = {override.partition("=")[0]: override for override in (*given, *overrides)}
    return ["-m", *by_key.values()]


def folders(home: Path) -> list[Path]:
    return sorted(path.parent for path in home.glob("outputs/sweeps/*/*/sweep.json"))


def records(home: Path) -> dict[str, dict[str, Any]]:
    """Of the newest sweep, by job."""
    return {path.parent.name: json.loads(path.read_text()) for path in folders(home)[-1].glob("*/record.json")}


def statuses(home: Path) -> dict[str, str]:
    return {name: record["status"] for name, record in sorted(records(home).items())}


def failing(*numbers: int, error: BaseException | None = None, nan: bool = False) -> Callable[..., Any]:
    """The usual denoising, but for these calls of it, counted from 1."""
    count = iter(range(1, 1000))

    def denoise(*args: Any) -> Any:
        wrong = next(count) in numbers
        if wrong and error is not None:
            raise error
        made = call.denoise(*args)
        return {"latents": made["latents"] * float("nan")} if wrong and nan else made

    return denoise


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
    assert said.err == "error: interrupted; the same command goes on from what is in the store\n"
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
    assert ("measure.in_turn=true times it again beside each job" in said) is guesses
    assert all(record["timing"]["same_run"] is not guesses for record in records(tmp_path).values())


def test_a_typed_folder_is_used_and_what_is_done_in_it_stays(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*sweep(tmp_path), f"hydra.sweep.dir={tmp_path / 'mine'}"]
    assert main(given) == 0
    assert (tmp_path / "mine" / "2" / "record.json").exists() and not folders(tmp_path)
    calls = family()
    assert main(given) == 0 and calls == []
    with folder_choice.open_sweep_folder(tmp_path / "mine", tmp_path, tmp_path, {"identity": ""}, anew=False):
        assert main(given) == 1
    assert "another process runs a sweep there" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("hydra.sweep.subdir=x", "hydra.sweep.subdir=x: folders of jobs are named by their numbers"),
        ("hydra.sweeper.max_batch_size=2", "hydra.sweeper.max_batch_size=2: of no effect"),
        ("hydra/launcher=basic,isolated", "hydra/launcher"),
        ("+hydra.launcher.speed=2", "hydra.launcher.speed"),
    ],
)
def test_what_would_have_no_effect_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, said: str
) -> None:
    for rehearsal in ([], ["dry_run=true"]):
        assert main([*sweep(tmp_path), *rehearsal, option]) == 2
        err = capsys.readouterr().err
        assert said in err and err.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_what_hydra_leaves_of_a_job_is_left(tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    given = [f"+hydra.callbacks.mine._target_={__name__}.Seen", f"+hydra.callbacks.mine.file={seen}"]
    if "." not in __name__:  # imported by its path: Hydra could not find it
        given = []
    assert main([*sweep(tmp_path, "seed=1,2"), "+hydra.job.env_set.WAVESPEED_TEST=here", *given]) == 0
    (place,) = folders(tmp_path)
    assert (place / "multirun.yaml").exists()
    for number in ("0", "1"):
        hydra = (place / number / ".hydra" / "hydra.yaml").read_text()
        assert f"num: {number}" in hydra and "WAVESPEED_TEST: here" in hydra and str(place) in hydra
        assert f"seed={int(number) + 1}" in (place / number / ".hydra" / "overrides.yaml").read_text()
        assert "width: 32" in (place / number / ".hydra" / "config.yaml").read_text()
        assert (place / number / "run.log").exists()
    assert "WAVESPEED_TEST" not in os.environ
    if given:
        assert seen.read_text().split() == ["multirun", "job", "job", "end"]


class Seen:
    """A callback of Hydra's."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def _add(self, word: str) -> None:
        with self.file.open("a") as file:
            file.write(f"{word} ")

    def on_multirun_start(self, **_: Any) -> None:
        self._add("multirun")

    def on_job_start(self, **_: Any) -> None:
        assert os.environ["WAVESPEED_TEST"] == "here"
        self._add("job")

    def on_job_end(self, **_: Any) -> None:
        pass

    def on_multirun_end(self, **_: Any) -> None:
        self._add("end")


def test_two_sweeps_at_once_do_not_harm_each_other(tmp_path: Path) -> None:
    same = sweep(tmp_path, "prompt='a blue square'")
    children = [started(tmp_path, *same, name="one"), started(tmp_path, *same, name="two")]
    children.append(started(tmp_path, *sweep(tmp_path, "prompt='a blue square'", "seed=2,3,4"), name="three"))
    for child in children:
        child.join(LONG)
    assert [child.exitcode for child in children] == [0, 0, 0], [p.read_text() for p in tmp_path.glob("[ot]*")]
    places = folders(tmp_path)
    assert len(places) in (2, 3), "the second goes on in the first's folder only where that had ended"
    pixels: dict[int, set[str]] = {}
    for place in places:
        for number in ("0", "1", "2"):
            record = json.loads((place / number / "record.json").read_text())
            assert record["status"] == "completed"
            pixels.setdefault(record["config"]["seed"], set()).add(record["samples"][0]["pixels_sha256"])
    assert len(pixels) == 4 and all(len(found) == 1 for found in pixels.values())
    assert Store(tmp_path / "outputs" / "store").verify() == 0


def test_a_full_disk_fails_the_jobs_in_one_line_each_and_the_command_goes_on_later(tmp_path: Path) -> None:
    size = {"width=128", "height=128"}
    given = sweep(tmp_path, *size)
    child = started(tmp_path, *given, limits={resource.RLIMIT_FSIZE: 12_000})
    child.join(LONG)
    said = (tmp_path / "out").read_text()
    assert child.exitcode == 1 and "Traceback" not in said and said.count("File too large") >= 3, said
    assert "completed" not in set(statuses(tmp_path).values())
    child = started(tmp_path, *given)
    child.join(LONG)
    assert child.exitcode == 0, (tmp_path / "out").read_text()
    assert len(folders(tmp_path)) == 1 and set(statuses(tmp_path).values()) == {"completed"}
    left = [p for p in folders(tmp_path)[0].rglob(".*") if p.name not in (".lock", ".hydra")]
    assert not left and not list(folders(tmp_path)[0].glob("*/lost.json"))


def test_a_reason_that_the_disk_does_not_take_is_said_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        if path.parent.name.isdigit():
            raise RunError(f"{path}: cannot be written")
        write_text(path, text)

    monkeypatch.setattr(folder, "write_text", full)
    monkeypatch.setattr(worker, "_run_by_hydra", lambda *_: {"message": "no space left"})
    assert main(sweep(tmp_path, "seed=1")) == 1
    said = capsys.readouterr().out
    assert "1/1  job 0  lost: no space left" in said and "\n  job 0: no space left" in said


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


def test_a_killed_process_leaves_what_the_next_one_takes_away(tmp_path: Path) -> None:
    assert main(sweep(tmp_path)) == 0
    (place,) = folders(tmp_path)
    (place / "1" / "record.json").unlink()
    (place / "1" / "images" / "09_of-an-older-attempt.png").write_bytes(b"half")
    parts = [place / "1" / ".record.json.abc", *(place / f".{name}.abc" for name in folder.WRITTEN)]
    for part in parts:
        part.write_text("{")
    dead = place.parent / "00-00-00-000000"
    dead.mkdir()
    (dead / ".lock").touch()
    (place.parent / "notes").mkdir()
    write_text(place.parent / "notes" / "mine.txt", "kept")
    assert main(sweep(tmp_path)) == 0
    assert [p.name for p in (place / "1" / "images").iterdir()] == [
        Path(records(tmp_path)["1"]["samples"][0]["file"]).name
    ]
    assert not [part for part in parts if part.exists()] and not dead.exists()
    assert (place.parent / "notes" / "mine.txt").exists()


def test_sigterm_is_an_interrupt(tmp_path: Path) -> None:
    child = started(tmp_path, *sweep(tmp_path, "measure.repeats=200"))
    while child.is_alive() and not list(tmp_path.glob("outputs/sweeps/*/*/0/record.json")):
        child.join(0.02)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGTERM)
    child.join(LONG)
    assert child.exitcode == 130, (tmp_path / "out").read_text()
    assert statuses(tmp_path) == {"0": "interrupted"}
