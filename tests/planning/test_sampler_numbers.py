"""`sampler=fitted`: where its numbers come from, and what happens if there are none for a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.caching.calibration.data import Calibration, FittedSolver, format_key
from wavespeed_runner.caching.calibration.file import load, save
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.solver import Solver
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan, build_plan
from wavespeed_runner.planning.sampler_numbers import _describe_quality, build_full_key

TINY = ("model=flux", "model.init=tiny", "model.steps=6", "width=32", "height=32", "device=cpu", "prompt=x")
SOLVER = Solver(timesteps=[1000.0, 400.0], noise_weights=[1.0, 1.0], output_weights=[[-0.5], [-0.4, -0.6]])
MADE = {"quality": {"fitted": {"ssim": {"mean": 0.97}}}}


@pytest.fixture
def calibrated(composed: Callable[..., dict[str, Any]], tmp_path: Path) -> Path:
    """A calibration with a sampler of 2 evaluations for the tiny run, where runs below `tmp_path` look for it."""
    key = build_full_key(resolve_config(composed(*TINY)))
    path = tmp_path / "calibrations" / "mine.yaml"
    save(Calibration(key=key, made={}, samplers={2: FittedSolver(solver=SOLVER, made=MADE)}), path)
    return path


def plan(composed: Callable[..., dict[str, Any]], folder: Path, *overrides: str) -> Plan:
    return build_plan(composed(*TINY, "sampler=fitted", f"outputs={folder}", *overrides))


def test_a_file_keeps_the_solver(calibrated: Path) -> None:
    assert load(calibrated).samplers == {2: FittedSolver(solver=SOLVER, made=MADE)}


def test_the_numbers_are_those_of_the_full_run(composed: Any, calibrated: Path, tmp_path: Path) -> None:
    found = plan(composed, tmp_path, "steps=2")
    sampler: Any = found.config.sampler
    assert sampler.solver == SOLVER and "sampler=default steps=6" in sampler.calibrated_for
    assert any(c.key == "sampler.output_weights" and "SSIM 0.9700 to the full run" in c.why for c in found.changes)
    named = plan(composed, tmp_path / "elsewhere", "steps=2", f"sampler.calibration={calibrated}")
    assert named.config.sampler == sampler and named.keys == found.keys


def test_from_an_image_they_are_those_of_the_run_from_noise(composed: Any, calibrated: Path, tmp_path: Path) -> None:
    assert plan(composed, tmp_path, "steps=2", "graph=image_to_image", "strength=0.5").config.sampler.name == "fitted"


def test_other_steps_and_other_runs_have_no_numbers(composed: Any, calibrated: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"steps=3: .*mine.yaml has fitted samplers for 2 evaluations; .*fit eval"):
        plan(composed, tmp_path, "steps=3")
    with pytest.raises(ConfigError, match=r"sampler=fitted steps=2: needs .* it is for height=32, this run has 48"):
        plan(composed, tmp_path, "steps=2", "height=48")
    with pytest.raises(ConfigError, match=r"sampler.calibration=.*: it does not fit this run: it is for height=32"):
        plan(composed, tmp_path, "steps=2", "height=48", f"sampler.calibration={calibrated}")
    with pytest.raises(ConfigError, match=r"steps=2: needs .*there is none for this model; .*fit evaluations=2"):
        plan(composed, tmp_path / "elsewhere", "steps=2")


def test_numbers_of_a_record_stay_with_their_run(composed: Any, tmp_path: Path) -> None:
    """A resolved config carries them, and needs no calibration."""
    given = composed(*TINY, "sampler=fitted", "steps=2", f"outputs={tmp_path}")
    key = format_key(build_full_key(resolve_config(given)))
    given["sampler"] |= asdict(SOLVER) | {"calibrated_for": key}
    assert build_plan(given).changes == build_plan({**given, "seed": 3}).changes
    other = {**given, "sampler": {**given["sampler"], "calibrated_for": key.replace("width=32", "width=64")}}
    with pytest.raises(ConfigError, match=r"fitted for that run, and this one is .* sampler.calibrated_for=null"):
        build_plan(other)
    with pytest.raises(ConfigError, match=r"steps=3: the sampler's numbers are for 2 evaluations; steps=2, or"):
        build_plan({**given, "steps": 3})


def test_caches_pass_over_a_calibration_without_traces(composed: Any, calibrated: Path, tmp_path: Path) -> None:
    overrides = (*TINY, "steps=6", "cache=planned", f"outputs={tmp_path}")
    with pytest.raises(ConfigError, match="needs a calibration"):
        build_plan(composed(*overrides))
    with pytest.raises(ConfigError, match="it has fitted samplers only"):
        build_plan(composed(*overrides, f"cache.calibration={calibrated}"))


BROKEN: dict[str, Callable[[dict[str, Any]], Any]] = {
    "samplers.3: must have as many timesteps": lambda data: {3: data},
    "samplers.2.solver.timesteps": lambda data: {2: {**data, "solver": {**data["solver"], "timesteps": [1.0, 2.0]}}},
    "samplers.2.solver: unknown key 'code'": lambda data: {2: {**data, "solver": {**data["solver"], "code": 1}}},
    "samplers.2: unknown key 'x'": lambda data: {2: {**data, "x": 1}},
    "samplers.2.solver.output_weights: must be a list": lambda d: {
        2: {**d, "solver": {**d["solver"], "output_weights": 3}}
    },
    "samplers: its keys must be whole": lambda data: {"two": data},
    "samplers.2.made: must be": lambda data: {2: {**data, "made": []}},
    "samplers: must be a mapping": lambda data: [data],
}


@pytest.mark.parametrize("message", BROKEN)
def test_a_broken_file_is_refused_by_name(message: str, calibrated: Path) -> None:
    import yaml

    data = yaml.safe_load(calibrated.read_text())
    calibrated.write_text(yaml.safe_dump({**data, "samplers": BROKEN[message](data["samplers"][2])}, sort_keys=False))
    with pytest.raises(ConfigError, match=message):
        load(calibrated)


def test_a_changed_entry_is_another(calibrated: Path) -> None:
    calibration = load(calibrated)
    assert replace(calibration, samplers={}) != calibration


def test_a_file_that_is_not_there_is_told_by_the_key_that_names_it(composed: Any, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^sampler\.calibration=nowhere\.yaml: no such file; give another, or sampler"
    ):
        plan(composed, tmp_path, "steps=2", "sampler.calibration=nowhere.yaml")


@pytest.mark.parametrize(
    ("made", "shown"),
    [
        ({"quality": {"fitted": {"ssim": {"mean": 0.97}}}}, "; SSIM 0.9700 to the full run when it was fitted"),
        ({"quality": {"fitted": {"ssim": {"mean": -1}}}}, "; SSIM -1.0000 to the full run when it was fitted"),
        *(({"quality": {"fitted": {"ssim": {"mean": n}}}}, "") for n in (float("nan"), 10**90, -1.1, True, "1", None)),
        *(({"quality": quality}, "") for quality in (3, [], {"fitted": 3}, {"fitted": {"ssim": [1]}})),
    ],
)
def test_only_an_ssim_is_shown_as_one(made: dict[str, Any], shown: str) -> None:
    assert _describe_quality(made) == shown
