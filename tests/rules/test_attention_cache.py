"""Rules on diffusers' own cache strategies: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import FBCACHE, Apply, Cases, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.attention_cache import ATTENTION

RULES = (*ATTENTION,)
CASES: Cases = {
    "attention-whole": (
        [{"cache": "pab", "model": {"name": "generic", "repo": "a/b", "steps": 28, "width": 64, "height": 64}}],
        [{"cache": "pab"}, {"cache": "fbcache"}],
    ),
    "attention-branches": (
        [
            {"cache": "pab", "guidance_scale": 4.0},
            {"cache": "fastercache", "guidance_scale": 4.0},
            {"cache": "pab", "guidance_scale": 1.0, "model.name": "ltx2", "model.stg_scale": 1.0},
        ],
        [
            {"cache": "pab", "guidance_scale": 1.0},
            {"cache": "pab", "guidance_scale": 4.0, "model.name": "ltx2"},
            FBCACHE | {"guidance_scale": 4.0},
        ],
    ),
    "fastercache-family": (
        [{"cache": "fastercache", "model.name": "z_image"}],
        [{"cache": "pab", "model.name": "z_image"}, {"cache": "fastercache"}],
    ),
    "fastercache-guidance": (
        [{"cache": "fastercache", "model.name": "sd3", "guidance_scale": 4.0}],
        [
            {"cache": "fastercache", "model.name": "sd3", "guidance_scale": 1.0},
            {"cache": "pab", "model.name": "sd3", "guidance_scale": 4.0},
        ],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])
