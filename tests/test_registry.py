"""The registry: one entry a name, and an error for the second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from wavespeed_runner.registry import lookup, register


@dataclass(kw_only=True)
class Options:
    pass


@dataclass(kw_only=True)
class Others:
    pass


def first() -> None:
    """Implements it."""


def second() -> None:
    """Would implement it too."""


@pytest.mark.parametrize(
    ("options", "implementation"), [(Options, second), (Others, first), (Others, second), (Options, None)]
)
def test_a_second_entry_of_a_name_is_an_error_and_the_first_stays(
    own_registry: Any, options: type, implementation: Any
) -> None:
    register("sampler", "mine", Options)(first)
    with pytest.raises(ValueError, match="sampler=mine is registered twice"):
        register("sampler", "mine", options)(implementation)
    assert lookup("sampler", "mine").implementation is first and lookup("sampler", "mine").options is Options


def test_the_very_same_entry_may_come_again(own_registry: Any) -> None:
    for _ in range(2):
        register("sampler", "mine", Options)(first)
    assert lookup("sampler", "mine").implementation is first
