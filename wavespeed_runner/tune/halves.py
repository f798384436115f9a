"""Which prompts are for tuning and which for judging."""

from __future__ import annotations

from collections.abc import Sequence

from ..planning.plan import Plan

SHIPPED = "pkg://"
"""How names of files and models begin that come with a package."""


def split_prompts(prompts: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Two halves of the prompts, each once: for tuning and for judging.

    Args:
        prompts: in any order.
        seed: which half a prompt falls into.
    """
    import numpy as np

    different = list(dict.fromkeys(prompts))
    order = [different[number] for number in np.random.default_rng(seed).permutation(len(different))]
    half = len(order) // 2
    return order[:half], order[half : 2 * half]


def has_foreign_prompts(plan: Plan) -> bool:
    """Whether a model that is no demo would be tuned on the prompts that come with the package."""
    config = plan.config
    return str(config.prompts.path).startswith(SHIPPED) and not str(config.model.repo).startswith(SHIPPED)
