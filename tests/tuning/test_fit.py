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
    status, _, err = command("fit", "evaluations=2", "images=1", "held_out=1", "iterations=1", *run, "steps=3")
    assert status == 0 and "sampler=fitted measure.reference_steps=3" in err, err
    fitted = (*run, "sampler=fitted", "steps=2", "measure.reference_steps=3", "dry_run=true")
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
        assert command(*fit).status == 130
    (kept,) = read().values()
    assert kept.made["iterations"] == 2
    status, _, err = command(*fit)
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
