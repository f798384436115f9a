"""Rules on the images and tiles that ranks share: when each applies, and when it does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.rules.cases import Apply, Cases, check_rule
from wavespeed_runner.artifacts import Images, Sample
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.parallel_shares import SHARES
from wavespeed_runner.stages import stage

RULES = (*SHARES,)
DATA = {"parallel": "data"}
VAE = {"parallel": "ulysses", "parallel.vae": True}
TILED = {"memory.vae_tiling": True}
UNSTORED = {"graph.stages.photo": {"stage": "photo", "inputs": {"sample": "sample"}, "options": None}}
CASES: Cases = {
    "data-stage": (
        [
            DATA | {"graph.stages.load.options": {"parallel": {"name": "none"}}},
            {"graph.stages.load.options": {"parallel": {"name": "data", "degree": 2}}},
        ],
        [DATA, {"graph.stages.load.options": {"parallel": {"name": "ulysses", "degree": 2}}}],
    ),
    "data-stored": ([DATA | UNSTORED], [DATA, UNSTORED]),
    "tiles-data": ([DATA | {"parallel.vae": True}], [DATA, VAE, DATA | {"parallel.vae": True, "parallel.degree": 1}]),
    "tiles-of-one": ([VAE | {"parallel.degree": 1}], [VAE, {"parallel": "ulysses", "parallel.degree": 1}]),
    "tiles-without-tiling": ([VAE], [VAE | TILED, TILED, {"parallel": "cfg"}]),
    "tiles-tiny": (
        [VAE | {"accelerate.tiny_vae": "madebyollin/taef1"}],
        [VAE, {"accelerate.tiny_vae": "madebyollin/taef1"}],
    ),
    "tiles-model": ([VAE | {"family.single_call": True}], [VAE, {"family.single_call": True}]),
}


@dataclass(kw_only=True)
class PhotoOptions:
    """None."""


def take_photo(options: PhotoOptions, *, sample: Sample) -> Images:
    """Another one each time."""
    raise NotImplementedError


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_rule(apply: Apply, rule: Rule) -> None:
    stage("photo", options=PhotoOptions, pure=False)(take_photo)
    check_rule(apply, rule, CASES[rule.id])


Planned = Callable[..., Plan]


def test_ranks_of_data_need_a_batch_each(planned: Planned) -> None:
    wanted: Any = ("parallel=data", "parallel.degree=3")
    with pytest.raises(ConfigError, match=r"there is 1 batch of 2 images \(batch_size=2\) for 3 ranks.*parallel=none"):
        planned(*wanted, "num_images_per_prompt=2", "batch_size=2")
    (verdict,) = (v for v in planned(*wanted, "num_images_per_prompt=2").verdicts if v.rule == "data-batches")
    assert verdict.verdict == "unverified" and verdict.fix.startswith("parallel.degree=2")
    assert "there are 2 batches of 2 images" in verdict.message
    for enough in (("parallel.degree=3", "num_images_per_prompt=3"), ("parallel.degree=1",)):
        assert all(v.rule != "data-batches" for v in planned("parallel=data", *enough).verdicts)
