"""What is to be said of `seeds=per_prompt`: no rules, since rules do not know how many prompts there are."""

from __future__ import annotations

from ..artifacts import SEEDS
from ..config.schema import Config, Seeds
from .check import Finding
from .seeds import NOISE_SEEDS

ONE_PROMPT = "seeds-one-prompt"
"""Says that there is one prompt; of no use where prompts are still to come."""


def judge_seeds(c: Config, prompts: int) -> list[Finding]:
    """What is to be said of the seeds of so many prompts, beyond what rules say of the first one's."""
    if c.seeds is Seeds.same:
        return []
    count = prompts * c.num_images_per_prompt
    one_or_more = f"{prompts} prompt{'s' * (prompts != 1)}"
    has_seeds = (
        f"seed={c.seed} seeds=per_prompt: the {count} images of {one_or_more} have the seeds seed to seed + {count - 1}"
    )
    if c.seed + count > SEEDS:
        finding = Finding(
            rule="seeds-of-last",
            verdict="bad",
            message=f"{has_seeds}, and the last of them is above 2**64 - 1",
            fix=f"seed={SEEDS - count} is the largest for so many images",
            source="",
        )
    elif prompts == 1:
        finding = Finding(
            rule=ONE_PROMPT,
            verdict="unverified",
            message="seeds=per_prompt: there is one prompt, so it changes nothing",
            fix="more prompts, or leave it out",
            source="",
        )
    elif c.seed + c.num_images_per_prompt <= NOISE_SEEDS < c.seed + count:
        finding = Finding(
            rule="seeds-bits",
            verdict="unverified",
            message=f"{has_seeds}; torch makes noise on the CPU from the lowest 32 bits of a seed, so those from "
            "2**32 on are the same as those from 0 on",
            fix="seeds below 2**32 are all different",
            source="tests/planning/test_seeds.py",
        )
    else:
        return []
    return [finding]
