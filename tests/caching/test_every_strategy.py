"""Every family with every shipped strategy, composed from YAML as a user does.

What the plan refuses it refuses in one line; all the rest runs, hits, and leaves the model as it was. docs/support.md
says the same.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.caching.strategy_outcomes import (
    ACTING,
    CALLS,
    COUNTS,
    EVERY,
    SAMPLE,
    build_config,
    choose_graph,
    compose_configs,
    expect_outcome,
    needs_calibration,
    try_plan,
)
from tests.caching.strategy_runs import check_clean, check_run
from tests.caching.tiny_models import families
from tests.models.shipped import TINY
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.config.paths import CONF
from wavespeed_runner.registry import list_names


@pytest.mark.parametrize("family", EVERY)
def test_every_strategy_is_refused_in_one_line_or_runs(family: str, tmp_path: Path) -> None:
    """One after the other on the same loaded model, which is afterwards as it was before."""
    ran = []
    for strategy in ACTING:
        plan = try_plan(build_config(family, compose_configs()[1][strategy], tmp_path))
        expected = expect_outcome(family, strategy)
        if isinstance(plan, str):
            assert expected == ("calibration" if needs_calibration(plan) else "refused"), strategy
            assert "\n" not in plan and "cache" in plan and ";" in plan, "it says what is wrong, and a way out"
            assert not list(tmp_path.iterdir())
        else:
            assert expected == "runs", strategy
            check_run(family, strategy, plan)
            ran.append(strategy)
    if ran:
        check_clean(family)


def test_no_pair_is_left_out() -> None:
    assert set(ACTING) == {path.stem for path in (CONF / "cache").glob("*.yaml")} - {"none"}
    assert set(EVERY) == set(list_names("model"))
    outcomes = {strategy: Counter(expect_outcome(family, strategy) for family in EVERY) for strategy in ACTING}
    assert {name: (c["refused"], c["calibration"], c["runs"]) for name, c in outcomes.items()} == COUNTS


def test_configs_put_together_are_what_hydra_composes() -> None:
    """To save time, the other tests compose each model and each strategy once, and put them together."""
    model, _ = families()["wan"]
    for strategy in ("teacache", "partial", "pab"):
        overrides = [f"model={model}", f"graph={choose_graph('wan')}", *TINY, f"cache={strategy}", f"steps={CALLS}"]
        overrides += [*ACTING[strategy][0], f"prompt='{SAMPLE['prompt']}'", f"seed={SAMPLE['seed']}"]
        with composer(None):
            assert compose_job(overrides, overrides) == build_config("wan", compose_configs()[1][strategy])
