"""Rules on judges: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import VIDEO, Apply, Cases, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.judges import JUDGING

RULES = (*JUDGING,)
LPIPS = {"metrics": {"lpips": {"weights": "x.safetensors"}}}
SCENE = {"metrics": {"scene": {}}}
CASES: Cases = {
    "metrics-reference": (
        [{**LPIPS, "measure": "none"}, {"metrics": {"scene": {}, "temporal": {}}, "measure": "none"}],
        [{**LPIPS, "measure": "default"}, {**SCENE, "measure": "none"}, {"measure": "none"}],
    ),
    "metrics-videos": (
        [
            {"metrics": {"temporal": {}}, "measure": "default"},
            {"metrics": {"temporal": {}}, "measure": "default", **VIDEO, "num_frames": 1},
        ],
        [
            {"metrics": {"temporal": {}}, "measure": "default", **VIDEO, "num_frames": 5},
            {**LPIPS, "measure": "default"},
        ],
    ),
    "metrics-size": (
        [{**LPIPS, "width": 16, "height": 64}, {**SCENE, "width": 32, "height": 32}],
        [{**LPIPS, "width": 32, "height": 32}, {**SCENE, "width": 64, "height": 64}, {"width": 16, "height": 16}],
    ),
    "scene-size": (
        [{**SCENE, "width": 64, "height": 128}, {**SCENE, "width": 96, "height": 96}],
        [{**SCENE, "width": 128, "height": 128}, {**LPIPS, "width": 64, "height": 128}],
    ),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule_applies_exactly_where_its_cases_say(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


def test_every_rule_has_cases_in_the_order_of_the_table() -> None:
    assert [rule.id for rule in RULES] == list(CASES)
