"""Rules on cache strategies and their parts: when each applies, and when it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.rules.cases import FBCACHE, NOTHING, TEACACHE, Apply, Cases, check_rule
from wavespeed_runner.models.families.flux import BLOCKS
from wavespeed_runner.models.family import UNetBlocks
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.cache import CACHES

RULES = (*CACHES,)
MASKED = {"cache": "step_mask", "cache.criterion.mask": "101", "steps": 3}
WEIGHTS = {"name": "step_weights", "weights": [[], [0.5], []]}
CASES: Cases = {
    "cache-off": (
        [{"cache.start": 0.1}, {"cache.max_consecutive_cache_hits": 3}],
        [{}, FBCACHE | {"cache.start": 0.1}],
    ),
    "cache-attaches": ([FBCACHE | {"family.blocks": None}], [FBCACHE, {"family.blocks": None}]),
    "cache-parts": ([FBCACHE | {"cache.signal": None}], [FBCACHE, {"cache.signal": None}]),
    "cache-head": ([FBCACHE | {"cache.signal.blocks": 0}], [FBCACHE | {"cache.signal.blocks": 2}]),
    "cache-tail": ([FBCACHE | {"cache.tail_blocks": -1}], [FBCACHE | {"cache.tail_blocks": 1}]),
    "tail-family": (
        [
            FBCACHE | {"cache.tail_blocks": 1, "family.blocks": UNetBlocks()},
            FBCACHE | {"cache.tail_blocks": 1, "family.blocks": replace(BLOCKS, supports_tail_blocks=False)},
        ],
        [FBCACHE | {"cache.tail_blocks": 1}, FBCACHE | {"family.blocks": UNetBlocks()}],
    ),
    "depth-family": (
        [{"cache": "deepcache"}, FBCACHE | {"cache.depth": 1}],
        [{"cache": "deepcache", "family.blocks": UNetBlocks()}, FBCACHE],
    ),
    "depth-value": (
        [
            {"cache": "deepcache", "family.blocks": UNetBlocks(), "cache.depth": -1},
            FBCACHE | {"family.blocks": UNetBlocks(), "cache.depth": 2},
        ],
        [{"cache": "deepcache", "family.blocks": UNetBlocks(), "cache.depth": 4}, FBCACHE],
    ),
    "modulated-family": (
        [
            TEACACHE | {"family.blocks": replace(BLOCKS, modulated_input=None)},
            TEACACHE | {"family.blocks": UNetBlocks()},
        ],
        [TEACACHE, FBCACHE | {"family.blocks": UNetBlocks()}],
    ),
    "polynomial-signal": (
        [{"cache": "custom", "cache.criterion": {"name": "accumulated_polynomial"}}],
        [
            TEACACHE,
            {"cache": "custom", "cache.criterion": {"name": "accumulated_polynomial", "coefficients": [1.0, 0.0]}},
        ],
    ),
    "variant-family": (
        [TEACACHE | {"cache.variant": "ret_steps", "cache.signal.variant": "ret_steps"}],
        [
            TEACACHE,
            TEACACHE
            | {"cache.signal.variant": "x", "family.blocks": replace(BLOCKS, variants={"x": BLOCKS.modulated_input})},
        ],
    ),
    "interval-start": (
        [{"cache": "taylorseer", "cache.criterion.start": 0.5}],
        [{"cache": "taylorseer"}, {"cache": "taylorseer", "cache.criterion.start": 0.5, "cache.start": 0.5}],
    ),
    "interval-warmup": (
        [{"cache": "taylorseer", "cache.criterion": {"name": "interval", "interval": 5, "warmup": 2}}],
        [
            {"cache": "taylorseer"},
            {"cache": "taylorseer", "cache.criterion.warmup": 2},
            {"cache": "taylorseer", "cache.criterion": {"name": "interval", "interval": 5, "warmup": 3}},
        ],
    ),
    "signal-criterion": (
        [
            FBCACHE | {"cache.signal": NOTHING},
            TEACACHE | {"cache.signal": NOTHING},
            {"cache": "easycache", "cache.signal": {"name": "first_block_residual"}},
        ],
        [FBCACHE, {"cache": "easycache"}, {"cache": "taylorseer"}],
    ),
    "gamma-signal": (
        [{"cache": "taylorseer", "cache.predictor": {"name": "gamma"}}],
        [{"cache": "dicache"}, {"cache": "taylorseer"}, {"cache": "dicache", "cache.signal": None}],
    ),
    "schedule-fits": (
        [{"cache": "step_mask", "steps": 7}, {"cache": "step_mask", "cache.criterion.mask": "101"}],
        [
            {"cache": "step_mask", "steps": 28},
            {"cache": "step_mask", "steps": 20},
            {"cache": "taylorseer"},
            FBCACHE,
            # Of 30 steps an image that is started from runs 18.
            {"graph": "image_to_image", "cache": "step_mask", "cache.criterion.mask": "110101" * 3, "strength": 0.6},
        ],
    ),
    "weights-fit": (
        [
            MASKED | {"cache.predictor": {"name": "step_weights", "weights": [[], [], []]}},
            MASKED | {"cache.predictor": {"name": "step_weights", "weights": [[], [0.5, 0.5], []]}},
            MASKED | {"cache.predictor": {"name": "step_weights", "weights": [[], [0.5], [0.5]]}},
            MASKED | {"cache.predictor": WEIGHTS, "cache.warmup_steps": 2},
            MASKED | {"cache.predictor": {"name": "step_weights", "weights": [[], [0.5], [], [0.5]]}},
            FBCACHE | {"steps": 3, "cache.predictor": WEIGHTS},
        ],
        [MASKED | {"cache.predictor": WEIGHTS}, MASKED, FBCACHE],
    ),
    "cache-one": ([FBCACHE], [{}, FBCACHE | {"family.blocks": None}]),
}


def test_every_rule_has_cases() -> None:
    assert list(CASES) == [rule.id for rule in RULES]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_applies_where_it_should_and_only_there(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])
