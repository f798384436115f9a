"""Patterns of layers: what is refused, and that what is allowed matches quickly whatever the name."""

from __future__ import annotations

import re
import time

import pytest

from wavespeed_runner.accelerate.layer_patterns import check_patterns
from wavespeed_runner.accelerate.quant_options import CustomQuant, LayerScheme
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
        r"(transformer_)?blocks\.\d{1,2}\.(attn1|attn2|ff)\.(to_q|to_k|to_v|net\.0\.proj)",
        r".*(\.proj.*)?",
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
        ("(.|..|...|....)*!", "alternatives inside of one"),
        ("(.|..){28}!", "alternatives inside of one"),
        ("(.?){28}!", "alternatives inside of one"),
        ("(.|..)" * 28 + "!", "many alternatives in a row"),
        (".?" * 60 + "!", "many alternatives in a row"),
        ("(?=(.|..)*!).*", "alternatives inside of one"),
        ("((.|..)(.|..)|(.|..)(.|..))" * 7, "many alternatives in a row"),
        (".*.*.*.*(a|.)(b|..)x", "forever"),
        ("(){1000000000}x", "forever"),
        ("(((){200}){200}){200}x", "forever"),
        ("a" * 201, "at most 200"),
        ("(" * 99 + "a" + ")" * 100, "not a regular expression"),
    ],
)
def test_what_could_take_forever_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)) as caught:
        check_patterns("quant.skip", [pattern])
    assert str(caught.value).startswith("quant.skip=")


def test_the_worst_that_is_allowed_is_quick() -> None:
    for pattern in ("[a-z]*[a-z]*[a-z]*[a-z]*!", "(.|..)" * 19 + "!", ".?" * 19 + "!", "[a-z]*[a-z]*(.|..)(.|..)!"):
        check_patterns("quant.skip", [pattern])
        began = time.process_time()
        assert re.fullmatch(pattern, "a" * 64) is None
        assert time.process_time() - began < 1


def test_all_patterns_of_a_key_are_counted_together() -> None:
    check_patterns("quant.skip", [".*attn.*"] * 300)
    with pytest.raises(ConfigError, match="can take forever"):
        check_patterns("quant.skip", [".*attn.*"] * 400)
    with pytest.raises(ConfigError, match=r"quant\.layers="):
        CustomQuant(layers=[LayerScheme(pattern=".*.*.*x")] * 20)
