"""`fit`: fits a sampler to a full run, writes it where `sampler=fitted` finds it, and says what it reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.command_line import CommandLine
from wavespeed_runner.caching.calibration.file import load
from wavespeed_runner.tuning import fit_loop, fit_starts

RUN = ("model=flux", "model.init=tiny", "model.steps=5", "width=32", "height=32", "device=cpu")
SMALL = ("images=4", "held_out=2", "iterations=3")


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


@pytest.fixture(autouse=True)
def few_plain_solvers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_starts, "SHIFTS", (None, 3.0))
    monkeypatch.setattr(fit_starts, "SOLVERS", ("euler", "unipc"))


@pytest.mark.parametrize("gradients", ["true", "false"])
def test_a_fit_is_found_by_the_runs_it_is_for(command: CommandLine, gradients: str) -> None:
    status, out, err = command("fit", "evaluations=2,3", f"gradients={gradients}", *SMALL, *RUN, "prompt=x")
    assert status == 0, err
    assert "2 evaluations: begins at " in err and "3 evaluations: SSIM " in err
    calibration = load(Path(out.strip()))
    assert sorted(calibration.samplers) == [2, 3] and calibration.key["steps"] == 5
    for count, found in calibration.samplers.items():
        assert len(found.solver.timesteps) == count
        assert (found.made["images"], found.made["held_out"], found.made["gradients"]) == (4, 2, gradients == "true")
    status, out, err = command(*RUN, "prompt=x", "sampler=fitted", "steps=2")
    assert status == 0, err
    assert command("fit", "evaluations=4", *SMALL, *RUN, "prompt=x").status == 0
    assert sorted(load(Path(calibration_path(command))).samplers) == [2, 3, 4], "earlier ones are kept"


def calibration_path(command: CommandLine) -> str:
    (path,) = Path("outputs/calibrations").glob("*.yaml")
    return str(path)


def test_a_video_from_an_image_finds_its_sampler_and_other_steps_are_told(command: CommandLine) -> None:
    run = ("model=wan21_i2v_480p", "model.init=tiny", "device=cpu", "prompt=x")
    small = ("images=1", "held_out=1", "iterations=1")
    status, out, err = command("fit", "evaluations=2", "computed=3", *small, *run, "steps=4")
    assert status == 0 and "sampler=fitted measure.reference_steps=4" in err, err
    caches, samplers = sorted(map(load, map(Path, out.split())), key=lambda calibration: len(calibration.samplers))
    assert (list(caches.caches), list(samplers.samplers)) == ([3], [2]), "those from noise fit any start"
    assert command(*run, "cache=fitted", "cache.computed=3", "steps=4", "dry_run=true").status == 0
    status, _, err = command("fit", "evaluations=2", "computed=3", "out=x.yaml", *small, *run, "steps=4")
    assert status == 2 and "out=x.yaml: samplers and caches of this model are in two files" in err
    fitted = (*run, "sampler=fitted", "steps=2", "measure.reference_steps=4", "dry_run=true")
    status, out, err = command(*fitted)
    assert status == 0 and "sampler.output_weights" in out, err


def test_a_model_of_unknown_steps_and_blocks_is_told_which_of_them_is_needed(command: CommandLine) -> None:
    run = ("model=generic", "model.repo=pkg://wavespeed_runner/weights/demo_unet", "model.init=pretrained")
    status, _, err = command("fit", "evaluations=2", "device=cpu", *run)
    assert status == 2 and "model.name=generic: it is not known what its steps compute, so no sampler" in err
    status, _, err = command("fit", "computed=3", "device=cpu", *run)
    assert status == 2 and "it has no blocks that a strategy could skip" in err


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Ctrl-C after so many errors of images that are fitted on."""
    calls: list[int] = []
    usual = fit_loop.relative_errors

    def interrupted(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return usual(*args)

    monkeypatch.setattr(fit_loop, "relative_errors", interrupted)


@pytest.mark.parametrize("what", ["evaluations", "computed"])
def test_an_interrupted_fit_keeps_its_best_and_goes_on(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    fit = ("fit", f"{what}=3", "images=4", "held_out=2", "iterations=6", *RUN, "prompt=x")

    def read() -> dict[int, Any]:
        calibration = load(Path(calibration_path(command)))
        return dict(calibration.samplers if what == "evaluations" else calibration.caches)

    with monkeypatch.context() as patch:
        interrupt_after(patch, 3)
        status, _, err = command(*fit)
    assert status == 130 and "held out, after 2 of 6 iterations" in err
    (kept,) = read().values()
    assert (kept.made["iterations"], kept.made["of_iterations"]) == (2, 6)
    run = [*RUN, "prompt=x", "dry_run=true"]
    run += ["sampler=fitted", "steps=3"] if what == "evaluations" else ["cache=fitted", "cache.computed=3"]
    unfinished = "NOT FINISHED: the fit was interrupted after 2 of 6 iterations, and the same command goes on"
    assert unfinished in command(*run).out
    status, _, err = command(*fit)
    assert "NOT FINISHED" not in command(*run).out
    assert status == 0 and "goes on after 2 of 6 iterations" in err and "1 of 1 groups of reference images" in err
    gone_on = read()
    assert gone_on[3].made["iterations"] == 6
    status, _, err = command(*fit, "rerun=true")
    assert status == 0 and "goes on" not in err
    assert read() == gone_on, "the same as a fit that was not interrupted"


def test_fitted_weights_are_found_by_the_runs_they_are_for(command: CommandLine) -> None:
    status, out, err = command("fit", "computed=3", *SMALL, *RUN, "prompt=x")
    assert status == 0 and "no calibration fits this run; making one first" in err, err
    assert "3 of 5 computed: begins at steps 1," in err and "keeps what goes into their blocks" in err
    found = load(Path(out.strip())).caches[3]
    assert len(found.steps) == 3 and [len(row) for row in found.weights].count(0) == 3
    status, out, err = command(*RUN, "prompt=x", "cache=fitted", "cache.computed=3")
    assert status == 0, err
    assert "3 / 2" in out, "steps computed and cached"
    status, _, err = command(*RUN, "prompt=x", "cache=fitted", "cache.computed=4")
    assert status == 2 and "with weights fitted for 4 computed steps" in err
    assert "python -m wavespeed_runner fit computed=4 with this run's overrides" in err
    status, _, err = command(*RUN, "prompt=x", "cache=fitted", "cache.computed=3", "cache.warmup_steps=3")
    assert status == 2 and "cache.predictor.weights: there are weights for step " in err
    assert command("calibrate", *RUN, "prompt=x").status == 0
    assert load(Path(calibration_path(command))).caches[3] == found, "a new calibration keeps them"


def test_what_cannot_be_fitted_is_refused(command: CommandLine) -> None:
    def refuse(*arguments: str) -> str:
        status, out, err = command("fit", *arguments)
        assert status == 2 and not out
        return err

    assert "evaluations=N or computed=N: what is to be fitted?" in refuse(*RUN)
    assert "quant=int8_dq: no derivative is taken through it; gradients=false" in refuse(
        "evaluations=2", "quant=int8_dq", *RUN
    )
    assert "memory.layerwise_casting=float8_e4m3fn: no derivative" in refuse(
        "computed=3", "memory=layerwise_casting", *RUN
    )
    assert "seeds=same: a fit gives each image a seed of its own" in refuse("evaluations=2", "seeds=same", *RUN)
    assert "sampler=euler_ancestral: it draws fresh noise" in refuse("computed=3", "sampler=euler_ancestral", *RUN)
    assert "computed=2: 3 or more computed steps" in refuse("computed=2", *RUN)
    assert "computed=5: fewer than the full run's 5 steps" in refuse("computed=5", *RUN)
    assert "evaluations=6: fewer than the full run's 5 steps" in refuse("evaluations=6", *RUN)
    assert "sampler=unipc: what is fitted takes the place of sampler=default" in refuse(
        "evaluations=2", "sampler=unipc", *RUN
    )
    assert "num_images_per_prompt=2: a fit takes images=N" in refuse("evaluations=2", "num_images_per_prompt=2", *RUN)
    assert "a fit begins at noise" in refuse("evaluations=2", "graph=image_to_image", *RUN)
    assert "evaluations=x: numbers from 1 to 64" in refuse("evaluations=x", *RUN)
    assert "images=0: a whole number" in refuse("evaluations=2", "images=0", *RUN)
    assert "gradients=maybe: true or false" in refuse("evaluations=2", "gradients=maybe", *RUN)
    assert "cache=fbcache: calibration runs are uncached" in refuse("evaluations=2", "cache=fbcache", *RUN)


def test_weights_go_into_the_calibration_that_they_begin_with(command: CommandLine) -> None:
    """Also where the file of this run has samplers alone, and the calibration is another file."""
    assert command("fit", "evaluations=2", *SMALL, *RUN, "prompt=x").status == 0
    assert command("calibrate", "out=outputs/calibrations/mine.yaml", "importance=1", *RUN, "prompt=x").status == 0
    status, out, err = command("fit", "computed=3", *SMALL, *RUN, "prompt=x")
    assert status == 0 and "making one first" not in err, err
    found = load(Path(out.strip()))
    assert list(found.samplers) == [2] and list(found.caches) == [3] and len(found.sigmas) == len(found.importance) == 5
    status, _, err = command("fit", "evaluations=2", f"out={out.strip()}", *SMALL, *RUN, "prompt=x", "width=64")
    assert status == 2 and "it is the calibration of another run" in err


def test_an_interrupted_fit_replaces_none_with_more_iterations(
    command: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = ("fit", "evaluations=2", "held_out=2", *RUN, "prompt=x")
    assert command(*fit, "images=4", "iterations=3").status == 0
    before = load(Path(calibration_path(command))).samplers
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        status, _, err = command(*fit, "images=5", "iterations=30")
    assert status == 130 and "2: the earlier fit with 3 iterations is kept" in err
    assert load(Path(calibration_path(command))).samplers == before


def test_a_cache_is_fitted_without_derivatives(command: CommandLine) -> None:
    status, out, err = command("fit", "computed=4", "gradients=false", "iterations=1", "images=2", "held_out=1", *RUN)
    assert status == 0, err
    assert load(Path(out.strip())).caches[4].made["gradients"] is False


@pytest.mark.parametrize("steps", [1, 2])
def test_a_calibration_of_too_few_steps_tells_nothing_of_their_importance(command: CommandLine, steps: int) -> None:
    run = [override for override in RUN if "steps" not in override]
    status, out, err = command("calibrate", f"steps={steps}", "prompt=x", *run)
    assert status == 0, err
    assert load(Path(out.splitlines()[-1])).importance == []
