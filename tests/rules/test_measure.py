"""Rules on the reference and the noise floor: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import Apply, Cases, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.measure import MEASURING

RULES = (*MEASURING,)
CASES: Cases = {
    "reference-steps-unused": (
        [{"measure.reference_steps": 28, "measure": "none"}],
        [{"measure.reference_steps": 28, "measure": "default"}, {"measure": "none"}],
    ),
    "reference-steps-range": (
        [
            {"measure": "default", "steps": 4, "measure.reference_steps": 3},
            {"measure": "default", "measure.reference_steps": 0},
            {"measure": "default", "measure.reference_steps": 1001},
            {"measure": "default", "sampler": "lcm", "family.schedule": "diffusion", "measure.reference_steps": 51},
        ],
        [{"measure": "default", "steps": 4, "measure.reference_steps": n} for n in (None, 4, 1000)],
    ),
    "reference-steps-own": (
        [
            {"measure": "default", "measure.reference_steps": 28, "graph": "hires_fix", **given}
            for given in (
                {"graph.stages.denoise.options": {"steps": 4}},
                {"graph.stages.denoise_large.options": {"steps": 4, "strength": 0.5}},
            )
        ],
        [
            {"measure": "default", "measure.reference_steps": 28, "graph": "hires_fix"},
            {"measure": "default", "graph": "hires_fix", "graph.stages.denoise.options": {"steps": 4}},
        ],
    ),
    "reference-steps-nobody": (
        [{"measure": "default", "measure.reference_steps": 28, "graph.stages": {}}],
        [{"measure": "default", "measure.reference_steps": 28}, {"measure": "default", "graph.stages": {}}],
    ),
    "in-turn-unused": (
        [{"measure.in_turn": True, "measure": "none"}],
        [{"measure.in_turn": True, "measure": "default"}, {"measure": "none"}],
    ),
    "noise-floor-unused": (
        [{"measure.noise_floor": "repeat", "measure": "none"}, {"measure": "full", "measure.reference": False}],
        [{"measure": "full"}, {"measure": "none"}, {"measure": "default", "measure.noise_floor": "repeat"}],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])
