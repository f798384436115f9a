"""Applying the rules: ids are unique, a bad verdict stops a run with its fix, and nothing makes a rule fail."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rules.cases import FBCACHE, Apply
from wavespeed_runner.config.resolve import resolve_config
from wavespeed_runner.config.schema import Config
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.rules import RULES
from wavespeed_runner.rules.check import apply_rules, refuse_bad

REPO = Path(__file__).resolve().parents[2]
Composed = Callable[..., dict[str, Any]]


def test_every_rule_has_an_id_of_its_own() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES)


def test_a_test_that_a_rule_cites_is_there() -> None:
    cited = [rule.source for rule in RULES if rule.source and rule.source.startswith("tests/")]
    assert cited
    assert [source for source in cited if not (REPO / source.partition("::")[0].split()[0].rstrip(",")).is_file()] == []


def test_every_bad_rule_has_a_fix() -> None:
    assert [rule.id for rule in RULES if rule.verdict != "good" and not rule.fix] == []


def test_a_bad_verdict_stops_with_its_fix(apply: Apply) -> None:
    with pytest.raises(ConfigError, match="steps=0: at least 1 is needed; steps=28 is the model's own"):
        refuse_bad(apply({"steps": 0, "model.steps": 28}))


def test_good_and_unverified_verdicts_do_not_stop(apply: Apply) -> None:
    findings = apply(FBCACHE | {"steps": 8})
    assert {finding.verdict for finding in findings} == {"good", "unverified"}
    refuse_bad(findings)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "key", ["cache.criterion.threshold", "cache.start", "guidance_scale", "measure.difference_gain"]
)
def test_no_number_may_be_infinite_or_none(apply: Apply, key: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{key}=.*: a finite number is needed"):
        apply(FBCACHE | {key: value})


@pytest.fixture(scope="module")
def plain(composed: Composed) -> Config:
    return resolve_config(composed("cache=fbcache"))


@given(st.integers(-10, 100), st.integers(-32, 200), st.floats(), st.floats(), st.floats(), st.integers(-3, 50))
def test_applying_rules_never_fails(
    plain: Config, steps: int, width: int, start: float, end: float, threshold: float, limit: int
) -> None:
    config = deepcopy(plain)
    config.steps, config.width = steps, width
    config.cache.start, config.cache.end, config.cache.max_consecutive_cache_hits = start, end, limit
    config.cache.criterion.threshold = threshold  # type: ignore[union-attr]
    config.cache.residual_diff_threshold = threshold  # type: ignore[attr-defined]
    try:
        findings = apply_rules(config)
        refuse_bad(findings)
    except ConfigError as error:
        assert "\n" not in str(error)
        return
    assert steps >= 1 and width % 16 == 0 and 0 <= start < end <= 1 and threshold >= 0
