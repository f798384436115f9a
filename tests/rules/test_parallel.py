"""Rules on what can be divided among ranks: when each applies, and when it does not."""

from __future__ import annotations

import pytest

from tests.rules.cases import FBCACHE, VIDEO, Apply, Cases, Values, check_rule
from wavespeed_runner.models.family import UNetBlocks
from wavespeed_runner.rules import Rule
from wavespeed_runner.rules.parallel import PARALLEL

ULYSSES, RING, UNIFIED = {"parallel": "ulysses"}, {"parallel": "ring"}, {"parallel": "unified"}
CFG, DATA = {"parallel": "cfg"}, {"parallel": "data"}
GUIDED = {"model.guidance": "true_cfg", "guidance_scale": 4.0}
BOTH = ULYSSES | {"parallel.cfg": True}
WARM = {"measure": "default"}
REGIONAL, WHOLE = WARM | {"compile": "regional"}, WARM | {"compile": "default"}
OVERHEAD = WARM | {"compile": "reduce_overhead"}
FIRST = FBCACHE | {"cache.guidance_branches": "first"}

CASES: Cases = {
    "parallel-family": (
        [ULYSSES | {"family.blocks": UNetBlocks()}, RING | {"family.blocks": None}],
        [ULYSSES, CFG | GUIDED | {"family.blocks": None}, DATA | {"family.blocks": None}, {"family.blocks": None}],
    ),
    "parallel-whole-pipeline": ([CFG | {"family.single_call": True}], [CFG, ULYSSES | {"family.single_call": True}]),
    "parallel-cfg-guidance": ([CFG, BOTH, CFG | {"guidance_scale": 1.0}], [CFG | GUIDED, BOTH | GUIDED, ULYSSES]),
    "parallel-cfg-first-branch": (
        [CFG | GUIDED | FIRST],
        [CFG | GUIDED | FBCACHE, ULYSSES | GUIDED | FIRST, GUIDED | FIRST],
    ),
    "parallel-heads": (
        [ULYSSES | {"parallel.degree": 5}, UNIFIED | {"parallel.ulysses_degree": 5}],
        [ULYSSES | {"parallel.degree": 4}, RING | {"parallel.degree": 5}, DATA | {"parallel.degree": 5}],
    ),
    "parallel-uneven-heads": (
        [ULYSSES | {"parallel.degree": 3}],
        [ULYSSES, ULYSSES | {"parallel.degree": 4}, ULYSSES | {"parallel.degree": 5}, RING | {"parallel.degree": 3}],
    ),
    "parallel-ring-attention": (
        [RING | {"attention": "math"}, UNIFIED | {"attention": "flash_native"}],
        [ULYSSES | {"attention": "math"}, RING, {"attention": "math"}],
    ),
    "parallel-diffusers-cache": (
        [ULYSSES | VIDEO | {"cache": "pab"}],
        [ULYSSES | FBCACHE, DATA | {"cache": "pab"}, {"cache": "pab"}],
    ),
    "parallel-per-tensor": (
        [ULYSSES | {"quant": "fp8_dq"}, CFG | GUIDED | {"quant": "fp8_dq"}],
        [ULYSSES | {"quant": "fp8_dq_row"}, DATA | {"quant": "fp8_dq"}, {"quant": "fp8_dq"}],
    ),
    "parallel-one-rank": (
        [ULYSSES | {"parallel.degree": 1}, DATA | {"parallel.degree": 1}],
        [ULYSSES, CFG | GUIDED, {}],
    ),
    "parallel-compile-whole": (
        [ULYSSES | WHOLE, RING | WHOLE],
        [ULYSSES | REGIONAL, CFG | GUIDED | WHOLE, WHOLE, ULYSSES | WHOLE | {"compile.target": ["vae"]}],
    ),
    "parallel-cuda-graphs": (
        [ULYSSES | OVERHEAD | {"compile.regional": True}],
        [ULYSSES | REGIONAL, OVERHEAD, DATA | OVERHEAD],
    ),
}
OF_A_FAMILY = {"parallel-cfg-truncated", "parallel-dmd"}
"""Rules that are about one family."""


@pytest.mark.parametrize("rule", [rule for rule in PARALLEL if rule.id not in OF_A_FAMILY], ids=lambda rule: rule.id)
def test_a_rule_applies_exactly_where_it_should(apply: Apply, rule: Rule) -> None:
    check_rule(apply, rule, CASES[rule.id])


@pytest.mark.parametrize(
    ("values", "way_out"),
    [
        (CFG, "parallel=ulysses"),
        (BOTH, "parallel.cfg=false"),
        (CFG | {"family.blocks": UNetBlocks()}, "parallel=data"),
    ],
)
def test_the_way_out_of_missing_guidance_is_one_that_exists(apply: Apply, values: Values, way_out: str) -> None:
    (finding,) = [finding for finding in apply(values) if finding.rule == "parallel-cfg-guidance"]
    assert finding.fix == f"a guidance_scale that takes effect, or {way_out}"
