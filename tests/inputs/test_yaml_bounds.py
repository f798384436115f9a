"""YAML: values and levels are counted as what they come to when aliases are followed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from wavespeed_runner.inputs import limits
from wavespeed_runner.inputs.files import InputError
from wavespeed_runner.inputs.yaml_documents import check_yaml, parse_yaml


def test_aliases_count_as_what_they_stand_for() -> None:
    text = "a: &a [1, 2]\nb: *a\nc: *a\n"
    assert parse_yaml(text, max_nodes=13)["c"] == [1, 2]  # the mapping, three keys, and three lists of two
    with pytest.raises(InputError, match="more than 12 values"):
        check_yaml(text, max_nodes=12)


def test_levels_are_counted_through_aliases() -> None:
    def nest(first: int, second: int) -> str:
        return f"a: &a {'[' * first}{']' * first}\nb: {'[' * second}*a{']' * second}\n"

    check_yaml(nest(49, limits.MAX_DEPTH - 50))
    for first, second in ((49, limits.MAX_DEPTH - 49), (limits.MAX_DEPTH, 0), (0, limits.MAX_DEPTH)):
        with pytest.raises(InputError, match="nested too deep"):
            check_yaml(nest(first, second))


@settings(max_examples=200, deadline=None)
@given(st.recursive(st.none(), lambda inner: st.lists(inner, max_size=3), max_leaves=30), st.integers(0, 6))
def test_levels_and_values_are_those_of_what_is_built(data: Any, shared: int) -> None:
    """PyYAML writes what appears twice as an alias."""
    for _ in range(shared):
        data = [data, data]
    values, levels = count(data)
    text = yaml.safe_dump(data)
    check_yaml(text, max_nodes=values)
    with pytest.raises(InputError, match=f"more than {values - 1} values"):
        check_yaml(text, max_nodes=values - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "MAX_DEPTH", levels)
        check_yaml(text)
        patch.setattr(limits, "MAX_DEPTH", levels - 1)
        if levels:
            with pytest.raises(InputError, match="nested too deep"):
                check_yaml(text)


def count(data: Any) -> tuple[int, int]:
    """Values and levels of lists inside each other."""
    if not isinstance(data, list):
        return 1, 0
    inner = [count(value) for value in data]
    return 1 + sum(n for n, _ in inner), 1 + max((levels for _, levels in inner), default=0)


@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2", "{a: 1, 'a': 2}", "x: {y: [1, {b: 1, c: 2, b: 3}]}", "? a\n: 1\n? a\n: 2", "[{a: {}, a: []}]"],
)
def test_a_key_that_a_mapping_has_twice_is_refused(text: str) -> None:
    with pytest.raises(yaml.YAMLError, match=r"found duplicate key [ab]"):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    ["a: {a: a}\nb: [a, a, {a: 1}, {a: 2}]", "a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: *x", "[a, a]", "a", "? [a, a]\n: a"],
)
def test_what_only_looks_like_a_key_twice_is_read(text: str) -> None:
    try:
        expected = yaml.safe_load(text)
    except yaml.constructor.ConstructorError:  # a list as a key
        return
    assert parse_yaml(text) == expected
