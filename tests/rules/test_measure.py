"""Rules on the reference and the noise floor: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import DISTILLED, LORA, Apply, Cases, check_rule
from tests.rules.cases import OWN as OWN_SAMPLER
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.measure import MEASURING

RULES = (*MEASURING,)
OWN = {"measure": "default", "measure.reference_sampler": "own"}
LCM = LORA | {"adapters.path": "latent-consistency/lcm-lora-sdv1-5", "family.schedule": "diffusion"}
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
            {**OWN, "measure.reference_steps": 3, "steps": 4},
            {**OWN, "measure.reference_steps": 3, "steps": 4, "sampler": "euler"},
            {**OWN, "measure.reference_steps": 0, "sampler": "unipc"},
        ],
        [
            *({"measure": "default", "steps": 4, "measure.reference_steps": n} for n in (None, 4, 1000)),
            {**OWN, "measure.reference_steps": 3, "steps": 4, "sampler": "unipc"},
            {**OWN, "measure.reference_steps": 51, "sampler": "lcm", "family.schedule": "diffusion"},
        ],
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
    "reference-sampler-unused": (
        [{"measure.reference_sampler": sampler, "measure": "none"} for sampler in ("own", "same")],
        [OWN, {"measure": "none"}],
    ),
    "reference-sampler-stages": (
        [
            {**OWN, "graph": "hires_fix", "graph.stages.denoise.options": given}
            for given in ({"steps": 4}, {"sampler": {"name": "unipc"}})
        ],
        [
            {**OWN, "graph": "hires_fix", "graph.stages.denoise_large.options": {"strength": 0.5}},
            {"measure": "default", "graph": "hires_fix", "graph.stages.denoise.options": {"steps": 4}},
        ],
    ),
    "reference-sampler-nobody": ([{**OWN, "graph.stages": {}}], [OWN, {"measure": "default", "graph.stages": {}}]),
    "reference-sampler-steps": (
        [{**OWN, "steps": 31, "model.steps": 30}, {**OWN, "steps": 31, "model.steps": 30, "sampler": "euler"}],
        [
            {**OWN, "model.steps": 30},
            {**OWN, "steps": 31, "model.steps": 30, "sampler": "unipc"},
            {**OWN, "steps": 31, "model.steps": 30, "measure.reference_steps": 31},
            {"measure": "default", "steps": 31, "model.steps": 30},
        ],
    ),
    "reference-sampler-more-steps": (
        [
            {**OWN, "steps": 31, "model.steps": 30, "sampler": "unipc"},
            {**OWN, "steps": 9, "measure.reference_steps": 8, "sampler": "euler", "sampler.shift": 2.0},
        ],
        [
            {**OWN, "steps": 30, "model.steps": 30, "sampler": "unipc"},
            {**OWN, "steps": 31, "model.steps": 30, "measure.reference_steps": 31, "sampler": "unipc"},
            {"measure": "default", "steps": 31, "model.steps": 30, "sampler": "unipc"},
        ],
    ),
    "reference-sampler-noise": (
        [{**OWN, "sampler": "euler_ancestral"}, {**OWN, "sampler": "unipc", **OWN_SAMPLER["lcm"]}],
        [
            {**OWN, "sampler": "unipc"},
            {**OWN, **OWN_SAMPLER["lcm"]},
            {"measure": "default", "sampler": "euler_ancestral"},
            {**OWN, "measure": "none", "sampler": "euler_ancestral"},
        ],
    ),
    "reference-sampler-lora": (
        [
            LCM | OWN | {"sampler": "lcm", "steps": 4, "model.steps": 25},
            LCM | OWN | {"sampler": "lcm", "steps": 4, "model.steps": 8},  # whose own sampler is not LCM's
            LORA | OWN | {"adapters.path": "a/FLUX.1-Turbo-Alpha", "steps": 8, "model.steps": 28},
        ],
        [
            LCM | {"measure": "default", "sampler": "lcm", "steps": 4, "model.steps": 25},
            LCM | OWN | OWN_SAMPLER["lcm"] | {"sampler": "lcm", "steps": 4, "model.steps": 8},
            LORA | OWN | {"adapters.path": "a/FLUX.1-Turbo-Alpha", "steps": 8, "model.steps": 16},
            LORA | OWN | {"adapters.path": "a/b", "steps": 8, "model.steps": 28},
            DISTILLED | OWN | LORA | {"adapters.path": "a/FLUX.1-Turbo-Alpha", "measure.reference_steps": 28},
        ],
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


def test_the_way_out_of_a_number_out_of_range_is_accepted(apply: Apply) -> None:
    """The model's own number of steps is no way out for a run of more steps of the same sampler."""
    for steps, expected in ((40, "measure.reference_steps=40"), (20, "leave it out for as many as the model's own")):
        values = {**OWN, "model.steps": 28, "steps": steps, "measure.reference_steps": steps - 1}
        (fix,) = [finding.fix for finding in apply(values) if finding.rule == "reference-steps-range"]
        assert fix == expected
        other = steps if "=" in fix else None
        assert not any(found.verdict == "bad" for found in apply(values | {"measure.reference_steps": other}))
