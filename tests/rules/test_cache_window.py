"""Rules on thresholds, schedules, windows and limits of a cache: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import FBCACHE, OWN, Apply, Cases, check_rule
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.cache_window import WINDOWS

RULES = (*WINDOWS,)
CASES: Cases = {
    "threshold": ([FBCACHE | {"cache.criterion.threshold": -0.1}], [FBCACHE | {"cache.criterion.threshold": 0.0}]),
    "threshold-twice": ([FBCACHE | {"cache.criterion.threshold": 0.5}], [FBCACHE, {}]),
    "key-twice": (
        [{"cache": "taylorseer", "cache.criterion.interval": 3}],
        [{"cache": "taylorseer"}, {"cache": "taylorseer", "cache.interval": 3, "cache.criterion.interval": 3}],
    ),
    "computes-all": (
        [
            {"cache": "taylorseer", "cache.interval": 1, "cache.criterion.interval": 1},
            {"cache": "custom", "cache.criterion": {"name": "budget", "share": 1.0}},
        ],
        [
            *({"cache": "taylorseer"}, {"cache": "custom", "cache.criterion": {"name": "never"}}),
            *(FBCACHE | {"steps": 1}, {"cache": "taylorseer", "cache.start": 200, "cache.end": 800}),
        ],
    ),
    "computes-more": (
        [{"cache": "custom", "cache.criterion": {"name": "budget", "share": None, "computed": 8}, "cache.end": 0.5}],
        [{"cache": "custom", "cache.criterion": {"name": "budget", "share": None, "computed": 8}}, FBCACHE],
    ),
    "threshold-zero": ([FBCACHE | {"cache.criterion.threshold": 0.0}], [FBCACHE]),
    "window-order": (
        [
            FBCACHE | {"cache.start": start, "cache.end": end}
            for start, end in ((0.8, 0.2), (0.5, 0.5), (-0.1, 1), (0, 2))
        ],
        [FBCACHE, {"cache.start": 0.8, "cache.end": 0.2}],
    ),
    "window-empty": (
        [
            *(FBCACHE | {"cache.start": 0.99}, FBCACHE | {"cache.end": 0.01}, FBCACHE | {"steps": 1}),
            *(
                FBCACHE | {"cache.warmup_steps": 30},
                FBCACHE | {"cache.warmup_steps": 29, "cache.force_last_step": True},
            ),
            FBCACHE | OWN["pndm"] | {"steps": 2, "cache.start": 0.4, "cache.end": 0.6},
        ],
        [
            FBCACHE | {"steps": 2, "cache.start": 0.4, "cache.end": 0.6},
            *(FBCACHE, FBCACHE | {"cache.start": 0.8, "cache.end": 0.2}, FBCACHE | {"steps": 0}),
        ],
    ),
    "hit-limit": (
        [FBCACHE | {"cache.max_consecutive_cache_hits": limit} for limit in (0, -2)],
        [FBCACHE | {"cache.max_consecutive_cache_hits": limit} for limit in (-1, 1)],
    ),
    "total-limit": (
        [FBCACHE | {"cache.max_cache_hits": limit} for limit in (0, -2)],
        [FBCACHE | {"cache.max_cache_hits": limit} for limit in (-1, 1)],
    ),
    "warmup": ([FBCACHE | {"cache.warmup_steps": -1}], [FBCACHE | {"cache.warmup_steps": 3}]),
    "blocks-left": (
        [
            FBCACHE | {"cache.signal.blocks": 6},
            FBCACHE | {"cache.signal.blocks": 2, "cache.tail_blocks": 4},
            FBCACHE | {"model.init": "random", "cache.signal.blocks": 57},
        ],
        [
            FBCACHE | {"cache.signal.blocks": 5},
            FBCACHE | {"model.init": "random", "cache.signal.blocks": 56},
            *({}, FBCACHE | {"family.blocks": None, "cache.signal.blocks": 99}),
        ],
    ),
    "few-steps": (
        [FBCACHE | {"steps": 8}, FBCACHE | {"graph": "image_to_image", "steps": 12, "strength": 0.6}],
        [FBCACHE | {"steps": 9}, {"steps": 8}, {"cache": "taylorseer", "steps": 8}],
    ),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


@pytest.mark.parametrize(
    ("schedule", "values", "fix"),
    [
        ("flow", {"steps": 8}, "12 steps or more, or cache=none"),
        ("flow", {"strength": 0.6}, "19 steps or more (strength=0.6 runs 12 of them), or cache=none"),
        ("diffusion", {"strength": 0.6}, "20 steps or more (strength=0.6 runs 12 of them), or cache=none"),
        ("flow", {"strength": 0.02}, "stages of 12 steps or more, or cache=none"),
    ],
)
def test_steps_that_do_not_run_are_not_counted_as_enough(
    apply: Apply, schedule: str, values: dict[str, float], fix: str
) -> None:
    graph = {"graph": "image_to_image"} if "strength" in values else {}
    values = FBCACHE | graph | {"steps": 12, "family.schedule": schedule} | values
    if values.get("strength") == 0.02:
        values["steps"] = 100
    (finding,) = [one for one in apply(values) if one.rule == "few-steps"]
    assert finding.fix == fix


@pytest.mark.parametrize(
    ("schedule", "strength", "left"), [("flow", 0.03, 1), ("flow", 0.05, 2), ("diffusion", 0.06, 1)]
)
def test_a_low_strength_is_named_where_it_leaves_no_step_to_skip(
    apply: Apply, schedule: str, strength: float, left: int
) -> None:
    values = {"cache.warmup_steps": 2, "graph": "image_to_image", "strength": strength, "family.schedule": schedule}
    (found,) = [finding for finding in apply(FBCACHE | values) if finding.rule == "window-empty"]
    assert f"strength={strength} leaves {left} of 30 steps to run, and none of them may be skipped" in found.message
    assert found.fix.startswith("a higher strength, ")


def test_a_window_of_timesteps_is_answered_with_the_fractions_that_they_are(apply: Apply) -> None:
    (found,) = [each for each in apply(FBCACHE | {"cache.start": 200, "cache.end": 800}) if each.rule == "window-order"]
    assert found.fix.endswith("cache.start=0.2 cache.end=0.8") and "parts of 1000 from the noise on" in found.fix


@pytest.mark.parametrize(
    ("start", "end", "meant"),
    [
        (20, 80, "cache.start=0.2 cache.end=0.8"),
        (20, 1, "cache.start=0.2 cache.end=1"),
        (0.2, 80, "cache.start=0.2 cache.end=0.8"),
    ],
)
def test_a_window_up_to_100_is_answered_as_percent(apply: Apply, start: float, end: float, meant: str) -> None:
    (found,) = [
        each for each in apply(FBCACHE | {"cache.start": start, "cache.end": end}) if each.rule == "window-order"
    ]
    assert found.fix == f"fractions: taken as percent, {meant}"
