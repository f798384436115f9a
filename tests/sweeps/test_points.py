"""Points become overrides that Hydra reads as exactly what was meant, and nothing that a file may not set."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wavespeed_runner.config.compose import parse_override
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.sweeps.points import resolve_points, to_overrides

TEXT = st.text(st.sampled_from("ab1,: {}[]()='\"\\$-.é\n\t%~+@") | st.characters(codec="utf-8"), max_size=12)
TEXTS = TEXT | st.sampled_from(
    ["null", "true", "1", "1.0", "nan", "1e3", "a,b", "range(3)", "choice(1,2)", "glob(*)", "int(3)", "'a'", " a ", ""]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS
NAMES = st.text("abcXYZ_", min_size=1, max_size=5)
VALUES = st.recursive(SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(NAMES, one, max_size=2))


@given(VALUES)
def test_a_value_is_read_as_it_was_meant(value: Any) -> None:
    try:
        (override,) = to_overrides({"prompt": value})
    except ConfigError as error:
        # Hydra's grammar has no words for some texts, such as a line break inside ${...}.
        assert "\n" not in str(error) and not _is_plain(value)
        return
    read = parse_override(override)
    assert (read.key_or_group, repr(read.value()), read.is_sweep_override()) == ("prompt", repr(value), False)


def _is_plain(value: Any) -> bool:
    return not isinstance(value, list | dict) and ("$" not in str(value))


@given(TEXTS)
def test_no_key_becomes_another_one(key: str) -> None:
    try:
        (override,) = to_overrides({key: 3})
    except ConfigError:
        return
    read = parse_override(override)
    assert read.get_key_element() == key and read.value() == 3


@pytest.mark.parametrize(
    ("point", "overrides"),
    [
        ({"cache": "fbcache", "cache.start": 0.1}, ["cache=fbcache", "cache.start=0.1"]),
        ({"prompt": "a, b", "steps": None, "seed": 3}, ["prompt='a, b'", "steps=null", "seed=3"]),
        ({"+graph.stages.a": {"stage": "encode"}, "~mask": None}, ["+graph.stages.a={stage:'encode'}", "~mask"]),
        ({"cache.criterion.computed": [1, 2, 4], "dtype": "1"}, ["cache.criterion.computed=[1,2,4]", "dtype='1'"]),
    ],
)
def test_a_point_reads_as_somebody_would_type_it(point: dict[str, Any], overrides: list[str]) -> None:
    assert to_overrides(point) == overrides


@pytest.mark.parametrize(
    "key",
    ["hydra.run.dir", "+hydra.callbacks.x", "++hydra.x", "~hydra.run", "hydra/launcher", "hydra/launcher@x", "outputs",
     "dry_run", "rerun", "++outputs", "prompts.path", "points", "+points"],
)  # fmt: skip
def test_a_point_may_not_set(key: str) -> None:
    with pytest.raises(ConfigError, match="a point may not set it"):
        resolve_points([{"steps": 3}, {key: "x"}], (), ())
    # Nor where the command line has it too, from which the point's would be dropped.
    with pytest.raises(ConfigError, match="a point may not set it"):
        resolve_points([{key: "x"}], (), {key.lstrip("+~")})


@pytest.mark.parametrize("key", [" hydra.run.dir", "hydra .x", "a=1 hydra.run.dir", "a=1,2", "", "a b"])
def test_a_key_that_hydra_would_read_otherwise_is_refused(key: str) -> None:
    with pytest.raises(ConfigError, match=r"a point may not set it|no override can be written so"):
        resolve_points([{key: "x"}], (), ())
        to_overrides({key: "x"})


@pytest.mark.parametrize("points", [3, "x", {}, {"steps": 3}, [], [3], [[]], [{}], [{"steps": 3}, None]])
def test_points_are_a_list_of_mappings(points: Any) -> None:
    with pytest.raises(ConfigError, match="a list of mappings is needed"):
        resolve_points(points, (), ())


def test_what_was_typed_wins_and_what_is_then_the_same_is_one() -> None:
    points = [{"steps": 4, "seed": 1}, {"++steps": 8, "seed": 1}, {"steps": 8, "seed": 2}]
    assert resolve_points(points, (), {"steps"}) == [{"seed": 1}, {"seed": 2}]
    assert resolve_points([{"steps": 1}, {"steps": True}, {"steps": 1}], (), ()) == [{"steps": 1}, {"steps": True}]
    assert resolve_points(None, ("steps",), {"steps"}) == [{}]


def test_a_key_is_in_points_or_in_params() -> None:
    with pytest.raises(ConfigError, match=r"points\[0\]\.steps: hydra\.sweeper\.params sweeps over it too"):
        resolve_points([{"steps": 4}], ("steps",), ())
    assert resolve_points([{"steps": 4}], ("steps",), {"steps"}) == [{}]
