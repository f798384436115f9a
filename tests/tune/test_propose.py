"""Large families: Optuna proposes ladders, the same ones for the same seed, and finds good ones without trying all."""

from __future__ import annotations

from typing import Any

from tests.tune.simulated import setting
from wavespeed_runner.tune.ladder import Ladder
from wavespeed_runner.tune.propose import TRIES, propose
from wavespeed_runner.tune.space import FEW, Family

LARGE = Family(
    name="large",
    set={},
    choose={"a": [0, 1, 2, 3, 4], "b": ["x", "y", "z"], "c": [True, 1, None, "1"]},
    key="steps",
    values=[4, 8],
)


def run(seed: int) -> list[dict[str, Any]]:
    """The choices in the order in which they were scouted; the smaller `a`, the better."""
    asked: list[dict[str, Any]] = []
    score: dict[int, float] = {}

    def scout(choices: list[dict[str, Any]]) -> list[Ladder]:
        asked.extend(choices)
        ladders = [Ladder(name=str(choice), settings=[setting(str(choice), 0, 0.5)]) for choice in choices]
        score.update(
            {id(ladder): choice["a"] + (choice["b"] != "y") for ladder, choice in zip(ladders, choices, strict=True)}
        )
        kept.extend(ladders)
        return ladders

    kept: list[Ladder] = []
    propose(LARGE, scout, lambda ladder: score[id(ladder)], seed=seed)
    return asked


def test_a_part_of_the_choices_is_scouted_the_first_of_each_list_at_first() -> None:
    asked = run(0)
    assert LARGE.size > FEW and len(asked) <= TRIES + 3 < LARGE.size
    assert asked[0] == {"a": 0, "b": "x", "c": True}
    assert len({repr(choice) for choice in asked}) == len(asked), "none twice"


def test_the_same_seed_proposes_the_same() -> None:
    assert repr(run(3)) == repr(run(3))


def test_what_did_well_is_proposed_more() -> None:
    """Over some seeds, later proposals are better than the first random ones."""
    runs = [run(seed) for seed in range(6)]
    score = [[choice["a"] + (choice["b"] != "y") for choice in asked[1:]] for asked in runs]
    early, late = [one[:5] for one in score], [one[-5:] for one in score]
    assert sum(map(sum, late)) < sum(map(sum, early))


def test_nothing_that_does_is_no_error() -> None:
    propose(LARGE, lambda choices: [Ladder(name="", settings=[]) for _ in choices], lambda ladder: None, seed=0)
