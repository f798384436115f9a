"""Keys and files of calibrations: what a calibration belongs to, and that nothing but a whole one is read."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from training.scenes import held_out
from wavespeed_runner.caching.calibration.data import (
    Calibration,
    ModelTrace,
    Polynomial,
    build_file_name,
    build_key,
    format_key,
)
from wavespeed_runner.caching.calibration.file import load, load_key, save
from wavespeed_runner.caching.calibration.find import SHIPPED
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Config
from wavespeed_runner.errors import ConfigError

SHIPPED_FILES = sorted(SHIPPED.glob("*.yaml"))


@pytest.fixture(scope="module", autouse=True)
def composing() -> Iterator[None]:
    with composer(None):
        yield


def config(*overrides: str) -> Config:
    return resolve_config(compose_job(list(overrides), list(overrides)))


def text(*overrides: str) -> str:
    return format_key(build_key(config(*overrides)))


def test_the_key_is_readable_and_says_what_the_numbers_hang_on():
    assert text("model=demo") == (
        "model=flux repo=pkg://wavespeed_runner/weights/demo init=pretrained guidance=true_cfg "
        "model.max_sequence_length=20 sampler=default steps=28 guidance_scale=1 width=64 height=64"
    )


@pytest.mark.parametrize(
    "override",
    [
        "model=demo_unet",
        "model.init=tiny",
        "model.revision=abc",
        "model.max_sequence_length=30",
        "sampler=euler",
        "steps=20",
        "guidance_scale=2",
        "width=96",
        "height=96",
        "graph=image_to_image",
    ],
)
def test_what_changes_the_numbers_changes_the_key(override):
    assert text(override) != text()


def test_options_of_a_sampler_and_an_adapters_weight_are_in_the_key():
    assert text("sampler=euler", "sampler.shift=3") != text("sampler=euler")
    night = ["adapters=lora", "adapters.path=pkg://wavespeed_runner/weights/demo_lora/night.safetensors"]
    assert len({text(), text(*night), text(*night, "adapters.weight=0.5")}) == 3


@pytest.mark.parametrize(
    "override",
    ["prompt='a red circle'", "seed=3", "model.dtype=bfloat16", "batch_size=2", "cache=fbcache", "measure.repeats=3"],
)
def test_what_does_not_is_not_in_it(override):
    assert text(override) == text()


def test_a_image_to_start_from_brings_its_strength_into_the_key():
    assert "strength=0.5" in text("graph=image_to_image", "strength=0.5")
    assert text("strength=0.5") == text()


def test_two_denoising_stages_have_no_common_calibration():
    with pytest.raises(ConfigError, match=r"graph\.stages: 2 of them denoise"):
        build_key(config("graph=hires_fix"))


numbers = st.floats(min_value=0, max_value=10, allow_nan=False).map(lambda x: float(f"{x:.6g}"))
names = st.text("abcdefgh_", min_size=1, max_size=12)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    n = draw(st.integers(2, 6))

    def rows(count: int, of: Any) -> list[list[Any]]:
        return [draw(st.lists(of, min_size=i + 1, max_size=i + 1)) for i in range(count)]

    gappy = st.none() | numbers
    fit = st.builds(
        lambda coefficients, ends, error, points: Polynomial(
            coefficients=coefficients, range=sorted(ends), error=error, points=points
        ),
        st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5),
        st.tuples(numbers, numbers),
        numbers,
        st.integers(0, 999),
    )
    budgets = draw(st.lists(st.integers(1, n), unique=True, max_size=2))
    return Calibration(
        key={
            "model": draw(names),
            "repo": "a/b",
            "init": "pretrained",
            "sampler": "default",
            "steps": n,
            "strength": 0.5,
        },
        made={"prompts": draw(st.lists(st.text(max_size=20), max_size=2)), "seeds": [0]},
        sigmas=draw(st.lists(numbers, min_size=n, max_size=n)),
        signals={draw(names): {draw(names): rows(n - 1, gappy)}},
        model={
            "cond": ModelTrace(input=draw(st.lists(gappy, min_size=n - 1, max_size=n - 1)), rate=rows(n - 1, gappy))
        },
        polynomial=draw(st.none() | fit),
        ratios=draw(st.just([]) | st.lists(st.floats(1e-3, 10), min_size=n, max_size=n)),
        gram={0: rows(n, numbers), 1: rows(n, numbers)},
        schedules={count: list(range(1, count + 1)) for count in budgets},
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(calibrations())
def test_what_is_written_is_read(tmp_path, calibration):
    path = tmp_path / "c.yaml"
    save(calibration, path)
    assert load(path) == calibration
    assert load_key(path) == calibration.key
    assert [file.name for file in tmp_path.iterdir()] == ["c.yaml"]


def minimal() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "for": {"model": "flux", "repo": "a/b", "init": "pretrained", "sampler": "default", "steps": 3},
        "made": {},
        "sigmas": [1.0, 0.6, 0.3],
        "signals": {"s": {"cond": [[0.1], [0.2, 0.1]]}},
        "model": {"cond": {"input": [0.1, 0.1], "rate": [[1.0], [1.0, 0.9]]}},
        "polynomial": {"coefficients": [1.0, 0.0], "range": [0.0, 1.0], "error": 0.1, "points": 9},
        "ratios": [1.0, 1.1, 0.9],
        "gram": {0: [[1.0], [0.5, 1.0], [0.2, 0.5, 1.0]]},
        "schedules": {2: [1, 3]},
    }


BROKEN = {
    "schema_version": 2,
    "for": {"model": "flux"},
    "for.steps": [3],
    "sigmas": [],
    "sigmas ": [1.0, 0.6],
    "signals.s.cond": [[0.1], [0.2]],
    "signals.s": [0.1],
    "model.cond.rate": [[1.0]],
    "model.cond.input": [1.0, "x"],
    "polynomial.range": [1.0, 0.0],
    "polynomial.coefficients": [],
    "polynomial.error": float("nan"),
    "ratios": [1.0, 0.0, 1.0],
    "ratios ": [1.0, 1.0],
    "gram": {"x": []},
    "gram.0": [[1.0], [0.5, -1.0], [0.2, 0.5, 1.0]],
    "schedules.2": [2, 3],
    "schedules": {3: [1, 3]},
    "gramm": {},
}


def test_the_file_that_is_broken_below_is_whole_before(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    assert load(path).ratios == [1.0, 1.1, 0.9]


@pytest.mark.parametrize("where", BROKEN)
def test_a_wrong_value_is_one_line_that_names_the_file(where, tmp_path):
    data = copy.deepcopy(minimal())
    *parents, last = where.strip().split(".")
    node = data
    for name in parents:
        node = node[name]
    node[0 if last == "0" else 2 if last == "2" else last] = BROKEN[where]
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as told:
        load(path)
    message = str(told.value)
    assert message.startswith(f"{path}: not a calibration: ")
    assert "python -m wavespeed_runner calibrate" in message
    assert "\n" not in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=st.data())
def test_no_damage_is_worse_than_one_line(tmp_path, data):
    """Bytes cut out of, or put into, a file: it is read as something whole, or refused in one line."""
    raw = yaml.safe_dump(minimal()).encode()
    at, length = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 40))
    path = tmp_path / "c.yaml"
    path.write_bytes(raw[:at] + data.draw(st.binary(max_size=8)) + raw[at + length :])
    for read in (load, load_key):
        try:
            read(path)
        except ConfigError as error:
            assert "\n" not in str(error)


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load(tmp_path / "none.yaml")


def test_file_names_tell_models_steps_and_keys_apart():
    here = {
        build_file_name(build_key(config(*o)))
        for o in ([], ["steps=20"], ["width=96"], ["model=demo_unet"], ["model.init=tiny"])
    }
    assert len(here) == 5
    assert any(name.startswith("demo-28-") for name in here)
    assert any(name.startswith("flux-tiny-28-") for name in here)


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_shipped_calibrations_are_of_the_models_as_they_come(path: Path):
    calibration = load(path)
    assert calibration.key == build_key(config(f"model={path.stem}"))
    assert path.stat().st_size < 60_000


def test_both_demo_models_have_one():
    assert [path.stem for path in SHIPPED_FILES] == ["demo", "demo_unet"]


@pytest.mark.parametrize("path", SHIPPED_FILES, ids=lambda path: path.stem)
def test_shipped_calibrations_have_not_seen_what_is_judged(path: Path):
    prompts = load(path).made["prompts"]
    shown = (Path(SHIPPED).parent / "prompts" / "demo.txt").read_text().splitlines()
    assert len(prompts) == len(set(prompts)) == 8
    assert not any(held_out(prompt) for prompt in prompts)
    assert not set(prompts) & set(shown)
