"""Rules on seeds: when each applies."""

from __future__ import annotations

import pytest

from tests.rules.cases import Apply, Cases, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.seeds import SEED_VALUES

CASES: Cases = {
    "seed": ([{"seed": -2}, {"seed": 2**64}], [{"seed": 0}, {"seed": 2**64 - 1}]),
    "seed-of-last": (
        [{"seed": 2**64 - 1, "num_images_per_prompt": 2}, {"seed": 2**64 - 4, "num_images_per_prompt": 5}],
        [
            {"seed": 2**64 - 1},
            {"seed": 2**64 - 1, "num_images_per_prompt": 2, "seeds": "per_prompt"},
            {"seed": 2**64 - 4, "num_images_per_prompt": 4},
            {"seed": 2**64},
        ],
    ),
    "seed-bits": (
        [{"seed": 2**32}, {"seed": 2**32 - 1, "num_images_per_prompt": 2}],
        [{"seed": 2**32 - 1}, {"seed": 2**32 - 2, "num_images_per_prompt": 2}],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in SEED_VALUES]


@pytest.mark.parametrize("rule", SEED_VALUES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])
