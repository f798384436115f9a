"""Rules on windows and reuse as other programs have them: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import FBCACHE, Apply, Cases, check_rule
from wavespeed_runner.config.schema import Rounding, Window
from wavespeed_runner.models.family import UNetBlocks
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.cache_measures import MEASURES

RULES = (*MEASURES,)
CASES: Cases = {
    "window-end": (
        [FBCACHE | {"cache.window": window, "cache.include_end": True} for window in (Window.sigmas, Window.timesteps)],
        [FBCACHE | {"cache.include_end": True}, FBCACHE | {"cache.window": Window.sigmas}],
    ),
    "window-rounding": (
        [
            FBCACHE | {"cache.window": window, "cache.start": 0.2, "cache.start_rounding": rounding}
            for window in (Window.sigmas, Window.timesteps)
            for rounding in (Rounding.nearest, Rounding.down)
        ],
        [
            FBCACHE | {"cache.start": 0.2, "cache.start_rounding": Rounding.down},
            FBCACHE | {"cache.window": Window.sigmas, "cache.start": 0.2, "cache.start_rounding": Rounding.up},
        ],
    ),
    "interval-window": (
        [
            {"cache": "deepcache", "cache.window": window, "cache.start": 0.2}
            for window in (Window.sigmas, Window.timesteps)
        ],
        [
            {"cache": "deepcache", "cache.start": 0.2, "cache.criterion.start": 0.2},
            {"cache": "deepcache", "cache.window": Window.sigmas},
            {"cache": "whole_reuse", "cache.start": 0.2},
        ],
    ),
    "whole-output": (
        [
            FBCACHE | {"cache.whole_output": True},
            {"cache": "deepcache", "cache.whole_output": True, "family.blocks": UNetBlocks()},
        ],
        [FBCACHE, {"cache": "whole_reuse", "family.blocks": UNetBlocks()}],
    ),
    "wavespeed-signal": (
        [{"cache": "wavespeed_residual"}, {"model.name": "sdxl", "cache": "wavespeed"}],
        [{"cache": "wavespeed"}, {"model.name": "sdxl", "cache": "wavespeed_residual"}, FBCACHE],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])
