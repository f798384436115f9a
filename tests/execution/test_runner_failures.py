"""Runs that fail or are interrupted: a record and one line say so, what was finished stays, nothing else does."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import TINY, run_as_data
from wavespeed_runner.cli.main import main
from wavespeed_runner.models import pipeline_call as call
from wavespeed_runner.models.weights import pretrained
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.process import interrupts
from wavespeed_runner.process.logging_setup import LogFile, log_to

Planned = Callable[..., Plan]


def fail(kind: type[BaseException], *args: Any, after: int = 0) -> Callable[..., Any]:
    """A stage's function that gives black images `after` times, then raises."""
    done = iter(range(after))

    def function(*_: Any, width: int = 32, height: int = 32, **__: Any) -> Any:
        if next(done, None) is None:
            raise kind(*args)
        return np.zeros((1, height, width, 3), np.uint8)

    return function


def on_disk(outputs: Path) -> dict[str, Any]:
    """The record of the newest run."""
    return json.loads(max(outputs.glob("runs/*/*/record.json")).read_text())


def command(tmp_path: Path) -> list[str]:
    """Two images."""
    (tmp_path / "prompts.txt").write_text("a red circle\na blue square\n")
    given = [o for o in TINY if not o.startswith("prompt=")]
    return [*given, "prompts=file", f"prompts.path={tmp_path / 'prompts.txt'}", f"outputs={tmp_path / 'outputs'}"]


def test_a_failed_stage_is_named_and_what_ran_before_is_listed(planned: Planned, family: Any, tmp_path: Path) -> None:
    family(decode=fail(ValueError, "no\n  colours"))
    record = run_as_data(planned(), tmp_path / "run", [])
    assert record["status"] == "failed"
    assert record["error"] == {"stage": "decode", "type": "ValueError", "message": "no colours"}
    assert [stage["name"] for stage in record["stages"]] == ["load", "encode", "denoise"]
    assert json.loads((tmp_path / "run" / "record.json").read_text())["error"] == record["error"]


def test_the_command_says_it_in_one_line_and_the_log_has_the_traceback(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family(decode=fail(ValueError, "no colours"))
    assert main(command(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("error: stage decode: ValueError: no colours (see ")
    (log,) = tmp_path.glob("outputs/runs/*/*/run.log")
    assert "Traceback" in log.read_text() and "no colours" in log.read_text()


def test_images_finished_before_a_failure_keep_their_files_and_figures(family: Any, tmp_path: Path) -> None:
    family(decode=fail(ValueError, "no colours", after=1))
    assert main(command(tmp_path)) == 1
    record = on_disk(tmp_path / "outputs")
    (sample,) = record["samples"]
    assert sample["prompt"] == "a red circle" and record["timing"]["median"] > 0 and record["cache"]["computed"] == 4
    assert [path.name for path in tmp_path.glob("outputs/runs/*/*/images/*")] == [Path(sample["file"]).name]


def test_interrupted_in_the_middle_the_same_command_computes_the_rest_alone(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family(decode=fail(KeyboardInterrupt, after=1))
    assert main(command(tmp_path)) == 130
    assert (
        capsys.readouterr().err
        == "error: interrupted; run the same command again to continue from the stored results\n"
    )
    record = on_disk(tmp_path / "outputs")
    assert record["status"] == "interrupted" and record["error"]["stage"] == "decode" and len(record["samples"]) == 1
    calls = family()
    assert main(command(tmp_path)) == 0
    assert calls == ["load", "decode"], "the second image's latents were in the store already"
    assert [sample["source"] for sample in on_disk(tmp_path / "outputs")["samples"]] == ["store", "store"]


def stopped_inside(after: type[Exception] | None) -> Callable[..., Any]:
    """A stage's function in which a SIGTERM comes, and that makes another error of it, or none."""

    def function(*_: Any, width: int = 32, height: int = 32, **__: Any) -> Any:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            if after is not None:
                raise after("cannot import name") from None
        return np.zeros((1, height, width, 3), np.uint8)

    return function


@pytest.mark.parametrize(("after", "finished"), [(ImportError, 0), (None, 1)])
def test_a_stop_that_a_library_takes_for_its_own_error_or_swallows_is_a_stop(
    family: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], after: type[Exception] | None, finished: int
) -> None:
    family(decode=stopped_inside(after))
    assert main(command(tmp_path)) == 130
    assert (
        capsys.readouterr().err
        == "error: interrupted; run the same command again to continue from the stored results\n"
    )
    record = on_disk(tmp_path / "outputs")
    assert (record["status"], record["error"]["type"]) == ("interrupted", "KeyboardInterrupt")
    assert len(record["samples"]) == finished
    family()
    assert not interrupts.was_interrupted() and main(command(tmp_path)) == 0, "it is over with that command"


def test_a_stop_while_the_noise_floor_is_measured_is_no_floor_that_could_not_be(
    family: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = stopped_inside(ImportError)
    monkeypatch.setattr("wavespeed_runner.execution.noise_floor._measure", lambda *_: stop())
    floor = ["measure=default", "measure.warmup=0", "measure.noise_floor=repeat"]
    assert main([*command(tmp_path), *floor]) == 130
    assert on_disk(tmp_path / "outputs")["status"] == "interrupted"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_latents_that_are_not_finite_fail_the_run_and_are_not_stored(
    planned: Planned, family: Any, tmp_path: Path, bad: float
) -> None:
    family(denoise=lambda *args: {"latents": call.denoise(*args)["latents"] * bad})
    plan = planned()
    record = run_as_data(plan, tmp_path / "run", [])
    assert record["error"]["type"] == "RunError" and record["error"]["stage"] == "denoise"
    assert record["error"]["message"].startswith("the latents of 'a red circle' are not finite (NaN or infinity)")
    assert plan.keys[0]["denoise"] not in plan.store


def test_a_signal_that_is_no_number_does_not_keep_the_record_from_being_written(
    planned: Planned, family: Any, tmp_path: Path
) -> None:
    def silent_first_block(*args: Any) -> Any:
        pipe = pretrained.load(*args)
        for weight in pipe.transformer.transformer_blocks[0].norm1.parameters():
            weight.data.zero_()  # its gates: the block then adds nothing, and 0 / 0 is no change
        return pipe

    family(load=silent_first_block)
    record = run_as_data(planned("cache=fbcache"), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    assert [step["signal"] for step in record["samples"][0]["steps"]] == [None] * 4
    assert (
        record["warnings"][-1] == "the cache never hit: nothing to compare with, or a schedule that computes every step"
    )


def no_space(name: str) -> Callable[[Any, Any], None]:
    """`os.replace` on a disk that is full when a file called `name` is put in its place."""
    replace = os.replace

    def function(source: Any, target: Any) -> None:
        if Path(target).name.endswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        replace(source, target)

    return function


@pytest.mark.parametrize(
    ("name", "stage", "way_out"),
    [
        ("config.yaml", "start", "choose another folder with outputs=DIR"),
        (".entry", "encode", "free some space"),
        (".png", "images", "choose another folder with outputs=DIR"),
        ("record.json", "start", "choose another folder with outputs=DIR"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_no_part_of_a_file(
    family: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    stage: str,
    way_out: str,
) -> None:
    monkeypatch.setattr(os, "replace", no_space(name))
    assert main(command(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"error: stage {stage}: ")
    assert "No space left on device" in err and way_out in err
    (folder,) = tmp_path.glob("outputs/runs/*/*")
    left = [path.name for path in folder.rglob("*") if path.is_file() and ".hydra" not in path.parts]
    assert name not in left and not any(file.startswith(".") for file in left)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_log_on_a_full_disk_stays_silent(capsys: pytest.CaptureFixture[str]) -> None:
    log = LogFile("/dev/full")
    log.emit(logging.LogRecord("x", logging.ERROR, __file__, 1, "text", None, None))
    with pytest.raises(OSError):
        log.close()
    assert capsys.readouterr().err == ""


def test_outputs_that_cannot_be_a_folder_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "outputs").write_text("a file")
    assert main(command(tmp_path)) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith(f"error: outputs={tmp_path / 'outputs'}: ")


@pytest.mark.parametrize("failing", [None, "denoise", "decode"])
def test_no_model_outlives_its_run(planned: Planned, family: Any, tmp_path: Path, failing: str | None) -> None:
    alive: list[Any] = []

    def watched(*args: Any) -> Any:
        pipe = pretrained.load(*args)
        alive.extend([weakref.ref(pipe), weakref.ref(pipe.transformer)])
        return pipe

    family(load=watched, **({failing: fail(ValueError, "boom")} if failing else {}))
    log_to(tmp_path / "run")  # pytest's own log keeps records, and with them tracebacks
    record = run_as_data(planned(), tmp_path / "run", [])
    assert record["status"] == ("failed" if failing else "completed")
    assert len(alive) == 2 and [reference() for reference in alive] == [None, None]
