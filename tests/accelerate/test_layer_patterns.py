"""Patterns of layers: what is refused, and that what is allowed matches quickly whatever the name."""

from __future__ import annotations

import re
import time

import pytest

from wavespeed_runner.accelerate.layer_patterns import check_patterns
from wavespeed_runner.errors import ConfigError


@pytest.mark.parametrize(
    "pattern",
    [
        ".*to_q",
        r".*\.ff\..*",
        r"(transformer|single)_blocks\.\d+\.(attn.*|ff.*)",
        "x_embedder",
        ".*to_[qkv]",
        "a|b.*|c.*",
    ],
)
def test_what_people_write_is_allowed(pattern: str) -> None:
    check_patterns("quant.skip", [pattern])


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("*x", "not a regular expression: nothing to repeat"),
        ("(", "not a regular expression"),
        ("(a+)+$", "one inside of another"),
        ("((a|b)*c)*", "one inside of another"),
        (".*.*.*.*.*x", "more than 4 repetitions"),
        (r"(.)(?:x|\1)", "forever"),
        ("a" * 201, "at most 200"),
        ("(" * 99 + "a" + ")" * 100, "not a regular expression"),
    ],
)
def test_what_could_take_forever_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        check_patterns("quant.skip", [pattern])
    assert str(caught.value).startswith("quant.skip=")


def test_the_worst_that_is_allowed_is_quick() -> None:
    pattern = "[a-z]*[a-z]*[a-z]*[a-z]*!"
    check_patterns("quant.skip", [pattern])
    began = time.perf_counter()
    assert re.fullmatch(pattern, "a" * 60) is None
    assert time.perf_counter() - began < 1
