"""What is said of `seeds=per_prompt`, which needs the number of prompts: when each finding applies."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from wavespeed_runner.config.schema import Seeds
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.rules.prompt_seeds import judge_seeds

CASES = {
    "seeds-one-prompt": ([(0, 1, 1), (5, 4, 1), (2**64 - 1, 1, 1)], [(0, 1, 2)]),
    "seeds-of-last": (
        [(2**64 - 1, 1, 2), (2**64 - 5, 2, 3), (2**64 - 1, 2, 1)],
        [(2**64 - 2, 1, 2), (2**64 - 6, 2, 3), (2**64 - 1, 1, 1)],
    ),
    "seeds-bits": ([(2**32 - 1, 1, 2), (2**32 - 5, 2, 3)], [(2**32 - 2, 1, 2), (2**32 - 6, 2, 3), (2**32, 1, 2)]),
}
"""Rule -> (seed, images a prompt, prompts) where it applies, and others where it does not."""
VERDICTS = {"seeds-one-prompt": "unverified", "seeds-of-last": "bad", "seeds-bits": "unverified"}


@pytest.fixture(scope="module")
def config(composed: Any) -> Any:
    return build_plan(composed()).config


@pytest.mark.parametrize("rule", CASES)
def test_a_finding_applies_where_it_should_and_only_there(config: Any, rule: str) -> None:
    run = deepcopy(config)
    for applies, cases in zip((True, False), CASES[rule], strict=True):
        for run.seed, run.num_images_per_prompt, prompts in cases:
            run.seeds = Seeds.per_prompt
            found = [finding for finding in judge_seeds(run, prompts) if finding.rule == rule]
            assert len(found) == applies, (run.seed, run.num_images_per_prompt, prompts)
            assert all(finding.verdict == VERDICTS[rule] and finding.message for finding in found)
            run.seeds = Seeds.same
            assert judge_seeds(run, prompts) == []
