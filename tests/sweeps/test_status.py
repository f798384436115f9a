"""How a job ended, from its record: also from one whose config, which is plain data, somebody has edited."""

from __future__ import annotations

from typing import Any

import pytest

from tests.records.makers import evidence, record, sample_record
from wavespeed_runner.records.sample import Engaged, Step
from wavespeed_runner.sweeps.status import NEVER_HIT, as_outcome

CONFIG: dict[str, Any] = {"cache": {"name": "fbcache"}, "steps": 2, "measure": {"reference_steps": 4}}
STEPS = [Step(index=i, computed=True, signal=None, level=None, seconds=1.0, stage="denoise") for i in (1, 2)]


def test_the_work_of_a_completed_job() -> None:
    completed = record(config=CONFIG, samples=[sample_record(steps=STEPS)], engaged=Engaged(cache=evidence(calls=2)))
    outcome = as_outcome(completed)
    assert (outcome.status, outcome.computed_share, outcome.never_hit) == ("completed", 0.5, NEVER_HIT)


@pytest.mark.parametrize(
    "config",
    [{}, {**CONFIG, "steps": 0, "measure": {}}, {**CONFIG, "cache": 3}, {"steps": "two"}],
)
def test_an_edited_config_leaves_only_the_work_unknown(config: dict[str, Any]) -> None:
    outcome = as_outcome(record(config=config, samples=[sample_record(steps=STEPS)]))
    assert (outcome.status, outcome.computed_share, outcome.never_hit) == ("completed", None, "")
