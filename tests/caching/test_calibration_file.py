"""Calibration files: what is written is read back, and nothing but a whole and valid file is read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wavespeed_runner.caching.calibration.data import Calibration, FittedWeights, ModelTrace, Polynomial
from wavespeed_runner.caching.calibration.file import load, load_key, save
from wavespeed_runner.errors import ConfigError

KEY = {"model": "x", "repo": "a/b", "init": "tiny", "sampler": "default", "steps": 1}

numbers = st.floats(min_value=0, max_value=10, allow_nan=False).map(lambda x: float(f"{x:.6g}") if x > 1e-30 else 0.0)
names = st.text("abcdefgh_", min_size=1, max_size=12)


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    n = draw(st.integers(2, 6))

    def rows(count: int, of: Any) -> list[list[Any]]:
        return [draw(st.lists(of, min_size=i + 1, max_size=i + 1)) for i in range(count)]

    number_or_gap = st.none() | numbers
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
        signals={draw(names): {draw(names): rows(n - 1, number_or_gap)}},
        model={
            "cond": ModelTrace(
                input=draw(st.lists(number_or_gap, min_size=n - 1, max_size=n - 1)), rate=rows(n - 1, number_or_gap)
            )
        },
        polynomial=draw(st.none() | fit),
        ratios=draw(st.just([]) | st.lists(st.floats(1e-3, 10), min_size=n, max_size=n)),
        gram={0: rows(n, numbers), 1: rows(n, numbers)},
        schedules={count: list(range(1, count + 1)) for count in budgets},
        caches={
            count: FittedWeights(
                steps=list(range(1, count + 1)), weights=[[]] * count + [[0.5]] * (n - count), made={"images": 4}
            )
            for count in budgets
        },
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(calibrations())
def test_a_saved_calibration_is_read_back(tmp_path, calibration):
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
        "caches": {2: {"steps": [1, 3], "weights": [[], [0.9], []], "made": {}}},
    }


BROKEN = {
    "schema_version": 2,
    "schema_version ": True,
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
    "gram.0 ": [[1.0], [0.5, 1e308], [0.2, 0.5, 1.0]],
    "schedules.2": [2, 3],
    "schedules": {3: [1, 3]},
    "caches.2.steps": [1, 2],
    "caches.2.steps ": [1],
    "caches.2.weights": [[], [0.9]],
    "caches.2.weights ": [[], [float("inf")], []],
    "caches.2.weights  ": [[], [0.9, 0.1], []],
    "caches.2.made": 1,
    "caches.2.maid": {},
    "caches": {2: 3},
    "gramm": {},
}


def test_the_minimal_file_is_valid_before_it_is_broken(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(minimal()))
    assert load(path).ratios == [1.0, 1.1, 0.9]


@pytest.mark.parametrize("where", BROKEN)
def test_a_wrong_value_is_refused_in_one_line_that_names_the_file(where, tmp_path):
    data = copy.deepcopy(minimal())
    *parents, last = where.strip().split(".")
    node = data
    for name in parents:
        node = node[int(name) if name.isdigit() and name not in node else name]
    node[int(last) if last.isdigit() else last] = BROKEN[where]
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: not a calibration: ")
    assert "python -m wavespeed_runner calibrate" in message
    assert "\n" not in message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=st.data())
def test_a_damaged_file_is_refused_in_one_line(tmp_path, data):
    """With bytes removed or inserted, the file still reads as a valid one or is refused in one line."""
    raw = yaml.safe_dump(minimal()).encode()
    at, length = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 40))
    path = tmp_path / "c.yaml"
    path.write_bytes(raw[:at] + data.draw(st.binary(max_size=8)) + raw[at + length :])
    for read in (load, load_key):
        try:
            read(path)
        except ConfigError as error:
            assert "\n" not in str(error)


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: no such file"):
        load(tmp_path / "none.yaml")


def test_the_key_is_in_the_first_lines_and_no_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    save(Calibration(key=KEY, made={}, sigmas=[1.0]), path)
    with path.open("ab") as file:
        file.truncate(10**11)  # sparse; only its beginning is read
    assert load_key(path) == KEY
    path.write_text("schema_version: 1\nfor: {model: x}\n" + "#" * 10**6)
    with pytest.raises(ConfigError, match=r"for\.repo is missing"):
        load_key(path)


def test_its_keys_may_be_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "sorted.yaml"
    save(Calibration(key=KEY, made={"prompts": ["x" * 10**5]}, sigmas=[1.0]), path)
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()), sort_keys=True))
    assert path.read_text().startswith("caches: {}\nfor:") and load_key(path) == KEY and load(path).sigmas == [1.0]


@pytest.mark.parametrize("key", ["sigmas", "for", "schema_version"])
def test_a_key_that_is_there_twice_is_refused(tmp_path: Path, key: str) -> None:
    """PyYAML takes the last one."""
    path = tmp_path / "twice.yaml"
    data = minimal()
    path.write_text(yaml.safe_dump(data) + yaml.safe_dump({key: data[key]}))
    for read in (load, load_key):
        with pytest.raises(
            ConfigError, match=f"not a calibration: broken YAML, line [0-9]+: found duplicate key {key}"
        ):
            read(path)


def test_a_key_below_another_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(yaml.safe_dump(minimal()).replace("for:\n", "for:\n  steps: 3\n"))
    with pytest.raises(ConfigError, match="found duplicate key steps"):
        load(path)
