"""Filling in a strategy's open numbers: where they come from, in which order, and what happens if nothing fits."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from wavespeed_runner.caching.calibration.best_schedule import find_best_schedule
from wavespeed_runner.caching.calibration.data import Calibration, build_key, format_key
from wavespeed_runner.caching.calibration.file import load, save
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.caching.calibration.resolve import resolve_cache_numbers
from wavespeed_runner.caching.criteria import published
from wavespeed_runner.caching.predictors.fitted import fit_error
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Config, to_data
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.registry import find_implementation

FLUX_DEV = "black-forest-labs/FLUX.1-dev"


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def config(*overrides: str) -> Config:
    return resolve_config(compose_job(list(overrides), list(overrides)))


def fill(given: Config):
    """The config with its numbers filled in, and what was filled in."""
    return resolve_cache_numbers(given, find_implementation("model", given.model))


@pytest.fixture(scope="module")
def demo() -> Calibration:
    return load(SHIPPED / "demo.yaml")


def test_a_complete_strategy_is_left_as_it_is():
    given = config("cache=fbcache")
    assert fill(given) == (given, [])


def test_a_calibration_in_a_package_is_used_and_no_file_of_such_a_name(demo, tmp_path, monkeypatch):
    """What is opened is what the check of the path has looked at."""
    named = "pkg://wavespeed_runner/calibrations/demo.yaml"
    right = config("cache=teacache", f"cache.calibration={named}")
    wrong = [
        config("cache=teacache", f"cache.calibration='{path}'")
        for path in ("pkg://nope/x.yaml", "pkg://wavespeed_runner/../x.yaml", "~nobody.of.this.name/x.yaml")
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pkg:" / "wavespeed_runner" / "calibrations").mkdir(parents=True)
    (tmp_path / "pkg:" / "wavespeed_runner" / "calibrations" / "demo.yaml").write_text("private")
    given, resolved = fill(right)
    assert given.cache.criterion.coefficients == demo.polynomial.coefficients
    assert [entry.why for entry in resolved] == [f"calibration {named}"] * 2  # coefficients and range
    for given in wrong:
        with pytest.raises(ConfigError, match=r"^cache\.calibration="):
            fill(given)


def test_a_calibration_of_the_same_run_is_used(demo):
    given, resolved = fill(config("cache=teacache"))
    assert given.cache.criterion.coefficients == demo.polynomial.coefficients
    assert given.cache.criterion.range == demo.polynomial.range
    assert given.cache.calibrated_for == format_key(demo.key)
    assert [(entry.key, entry.why) for entry in resolved] == [
        (f"cache.criterion.{key}", "calibration demo (shipped)") for key in ("coefficients", "range")
    ]


def test_magcache_and_planned_are_filled_in(demo):
    given, _ = fill(config("cache=magcache"))
    assert given.cache.criterion.ratios == demo.ratios
    given, resolved = fill(config("cache=planned"))
    assert given.cache.predictor.gram == demo.gram[0]
    assert {entry.key for entry in resolved} == {"cache.criterion.schedule", "cache.predictor.gram"}


def test_the_residual_after_the_first_block_has_its_own_gram_matrix(demo):
    given, _ = fill(config("cache=fbcache", "cache/predictor=fitted"))
    assert given.cache.predictor.gram == demo.gram[1] != demo.gram[0]


def test_a_schedule_has_as_many_steps_as_asked_for_and_no_swap_is_better(demo):
    given, _ = fill(config("cache=planned", "cache.computed=9", "cache.criterion.first=3"))
    schedule = given.cache.criterion.schedule
    assert len(schedule) == 9
    assert schedule[:3] == [1, 2, 3]
    gram = demo.gram[0]

    def sum_errors(steps: list[int]) -> float:
        skipped = [step for step in range(28) if step + 1 not in steps]
        before = [[s - 1 for s in steps if s - 1 < step][-3:] for step in skipped]
        return sum(fit_error(gram, tuple(history), step) for history, step in zip(before, skipped, strict=True))

    best = sum_errors(schedule)
    for out in schedule[3:-1]:
        for into in set(range(4, 28)) - set(schedule):
            assert sum_errors(sorted({*schedule, into} - {out})) >= best - 1e-12


def test_a_searched_schedule_comes_before_the_formula(demo, tmp_path):
    searched = [1, 2, 3, 4, 8, 28]
    assert searched != [s + 1 for s in find_best_schedule(demo.gram[0], 6, first=3)]
    save(replace(demo, schedules={6: searched}), tmp_path / "searched.yaml")
    given, _ = fill(config("cache=planned", "cache.computed=6", f"cache.calibration={tmp_path}/searched.yaml"))
    assert given.cache.criterion.schedule == searched
    assert given.cache.calibration is None


def test_what_the_yaml_gives_comes_first():
    given, resolved = fill(config("cache=teacache", "cache.criterion.coefficients=[1,0]"))
    assert given.cache.criterion.coefficients == [1, 0]
    assert given.cache.calibrated_for is None
    assert resolved == []


def test_a_named_file_comes_before_published_numbers_and_these_before_other_files(demo, tmp_path):
    flux = ["model=flux", "cache=teacache", f"outputs={tmp_path}"]
    row = published.find_polynomial(FLUX_DEV)
    own = replace(demo, key=build_key(config(*flux)))
    save(own, tmp_path / "calibrations" / "own.yaml")
    given, resolved = fill(config(*flux))
    assert given.cache.criterion.coefficients == list(row.coefficients)
    assert given.cache.calibrated_for == f"repo={FLUX_DEV}"
    assert row.source in resolved[0].why
    given, _ = fill(config(*flux, f"cache.calibration={tmp_path}/calibrations/own.yaml"))
    assert given.cache.criterion.coefficients == demo.polynomial.coefficients


def test_the_users_calibration_comes_before_the_shipped_one(demo, tmp_path):
    save(replace(demo, ratios=[1.0] * 28), tmp_path / "calibrations" / "own.yaml")
    given, _ = fill(config("cache=magcache", f"outputs={tmp_path}"))
    assert given.cache.criterion.ratios == [1.0] * 28


def test_a_tiny_run_does_not_use_a_calibration_of_the_real_weights():
    with pytest.raises(ConfigError, match="there is none for this model"):
        fill(config("model=demo", "model.init=tiny", "cache=planned"))


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("steps=20", "it is for steps=28, this run has 20"),
        ("sampler=euler", "it is for sampler=default, this run has euler"),
        ("width=96", "it is for width=64, this run has 96"),
        ("model.max_sequence_length=30", "it is for model.max_sequence_length=20, this run has 30"),
    ],
)
def test_another_run_is_refused_and_the_difference_is_named(change, difference, tmp_path):
    with pytest.raises(ConfigError) as caught:
        fill(config("cache=magcache", change, f"outputs={tmp_path}"))
    message = str(caught.value)
    assert message.startswith("cache.criterion.ratios=null: cache=magcache needs a calibration for model=flux")
    assert f"the nearest one, demo (shipped), does not fit: {difference};" in message
    assert "python -m wavespeed_runner calibrate" in message


def test_a_named_file_of_another_run_is_refused():
    path = SHIPPED / "demo_unet.yaml"
    with pytest.raises(ConfigError) as caught:
        fill(config("cache=magcache", f"cache.calibration={path}"))
    assert str(caught.value).startswith(
        f"cache.calibration={path}: it does not fit this run: it is for model=sd, this "
    )


def test_a_named_file_that_has_no_effect_is_refused():
    with pytest.raises(ConfigError, match="leaves nothing open that a calibration could fill"):
        fill(config("cache=fbcache", "cache.calibration=x.yaml"))


def test_without_a_modulated_input_there_is_no_polynomial():
    with pytest.raises(ConfigError, match="no modulated input to watch, or there were too few steps"):
        fill(config("model=demo_unet", "cache=teacache"))


@pytest.mark.parametrize("change", ["cache.tail_blocks=1", "cache.depth=1"])
def test_a_part_of_the_blocks_that_was_not_recorded_is_refused(change):
    with pytest.raises(ConfigError, match="has the residual after 0 or 1 first blocks, up to the last block"):
        fill(config("model=demo_unet", "cache=planned", change))


def test_a_resolved_config_stays_as_it_is_and_is_refused_for_another_run():
    given, _ = fill(config("cache=planned"))
    again = resolve_config(to_data(given))
    assert fill(again) == (again, [])
    with pytest.raises(ConfigError) as caught:
        fill(replace(again, steps=20))
    assert "the strategy's numbers were filled in for that run, and this one is model=flux" in str(caught.value)
    assert "cache.criterion.schedule=null cache.predictor.gram=null cache.calibrated_for=null" in str(caught.value)


def test_other_yaml_files_among_the_calibrations_are_ignored(tmp_path):
    folder = tmp_path / "calibrations"
    folder.mkdir()
    (folder / "a.yaml").write_text("just: something\n")
    (folder / "b.yaml").write_bytes(b"\xff\xfe")
    assert fill(config("cache=magcache", f"outputs={tmp_path}"))[0].cache.criterion.ratios


def test_a_plan_with_a_calibration_loads_no_torch():
    code = """if True:
        import sys
        from wavespeed_runner.config.compose import compose_job, composer
        from wavespeed_runner.planning.plan import build_plan
        with composer(None):
            plan = build_plan(compose_job(["cache=planned"], ["cache=planned"]))
        assert plan.config.cache.predictor.gram
        assert not {"torch", "diffusers"} & set(sys.modules)
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_values_given_next_to_an_open_key_stay():
    given, _ = fill(config("model=flux", "cache=teacache", "cache.criterion.range=[0,0.1]"))
    assert given.cache.criterion.range == [0, 0.1] and given.cache.criterion.coefficients


def test_planned_steps_work_with_another_predictor():
    given, _ = fill(config("model=demo", "cache=planned", "cache/predictor=dmd"))
    assert len(given.cache.criterion.schedule) == 10
