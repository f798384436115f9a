"""What a record says of a setting: its times, and what stands for times that cannot be."""

from __future__ import annotations

from argparse import Namespace
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.metrics import timing
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.records.summary import computed_share
from wavespeed_runner.sweeps.status import Outcome
from wavespeed_runner.tune.progress import RoundProgress
from wavespeed_runner.tune.result import Result, read_result
from wavespeed_runner.tune.rounds import Rounds
from wavespeed_runner.tune.settings import Setting

Finished = tuple[Path, dict[str, Any]]
SETTING = Setting(point={"cache": "fbcache"}, identity="x", work=None)


@pytest.fixture(autouse=True)
def as_for_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests take any time for possible."""
    monkeypatch.setattr(timing, "TOO_FAST", 1.15)


def read(record: dict[str, Any], seconds: float, reference: float) -> tuple[Result, float]:
    """The record, with these times of every image, as a result; and the share that was computed."""
    made = deepcopy(record)
    for sample in made["samples"]:
        sample |= {"seconds": seconds, "reference_seconds": reference, "raw_seconds": [seconds]}
    made["timing"] |= {"median": seconds, "reference_median": reference, "speedup": reference / seconds}
    made["timing"] |= {"same_run": True, "void": None}
    known = record_from_data(made)
    return read_result(known, SETTING, Path(), 2), computed_share(known) or 0.0


def test_a_time_that_cannot_be_is_foreseen_from_what_was_computed(finished: Finished) -> None:
    """The reference was timed on a busier machine: nothing is ten times as fast at a half of the work."""
    result, share = read(finished[1], 0.1, 1.0)
    assert 0.1 < share < 1 and result.relative == pytest.approx(share) and result.speedup == pytest.approx(1 / share)
    assert result.foreseen and result.guess and result.seconds == 0.1, "its own time stays"


def test_a_time_that_can_be_is_taken(finished: Finished) -> None:
    result, share = read(finished[1], 1.0, 1.0)
    assert result.relative == 1.0 == result.speedup and not result.foreseen and not result.guess
    result, _ = read(finished[1], share * 1.02, 1.0)
    assert result.relative == pytest.approx(share * 1.02) and not result.foreseen


def test_a_result_takes_all_times_of_another_run(finished: Finished) -> None:
    """Not the speed of one and the doubt about the other."""
    (one, _), (better, _) = read(finished[1], 0.1, 1.0), read(finished[1], 0.9, 1.0)
    timed = one.timed_as(better)
    assert (timed.relative, timed.speedup, timed.seconds) == (better.relative, better.speedup, better.seconds)
    assert not timed.guess and not timed.foreseen and one.timed_as(None) is one


def test_the_log_has_what_stands_for_a_time_that_cannot_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`7.21x` at 36 % computed would be read as a result."""
    outcome = Outcome(status="completed", seconds=0.1, speedup=7.21, same_run=True, ssim=0.98, computed_share=0.36)
    said = []
    for limit in (None, 1 / 0.36):
        progress = RoundProgress(
            tmp_path, [], [], {0: outcome}, names=["a"], figures=lambda _: "", limit=lambda _, most=limit: most
        )
        said.append(progress.figures(0))
    assert "  7.21" in said[0] and "~2.78" in said[1] and "7.21" not in said[1] and "36 % computed" in said[1]


def test_what_stands_for_such_times_is_explained_once(finished: Finished, tmp_path: Path) -> None:
    told: list[str] = []
    rounds = Rounds(folder=tmp_path, args=Namespace(), prompts=[], seed=0, name="tuning", tell=told.append)
    (impossible, _), (possible, _) = read(finished[1], 0.1, 1.0), read(finished[1], 1.0, 1.0)
    for found in ([possible, None], [impossible], [impossible]):
        rounds._explain(found)
    assert len(told) == 1 and "the machine was busier while their references were timed" in told[0]
