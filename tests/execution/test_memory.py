"""What a process keeps between the jobs of a sweep, the folder's own rules, and what the console calls things."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import makers
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.execution.process_cache import ProcessCache
from wavespeed_runner.records.file import write_record
from wavespeed_runner.records.labels import shorten_to_parts
from wavespeed_runner.records.record import Failure
from wavespeed_runner.sweeps.folder import SweepFolder
from wavespeed_runner.sweeps.folder_choice import open_sweep_folder


@settings(max_examples=30, deadline=None)  # letting go of models takes a while
@given(
    limit=st.integers(0, 30),
    writes=st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 12)), max_size=30),
    kept=st.sets(st.sampled_from("abcdef")),
)
def test_a_process_cache_holds_what_was_used_last_and_never_more_than_its_limit(
    limit: int, writes: list[tuple[str, int]], kept: set[str]
) -> None:
    cache, sizes = ProcessCache(limit=limit), dict(reversed(writes))
    for key, _ in writes:
        cache.remember(key, key.encode() * sizes[key])
        assert sum(len(cache.read(k) or b"") for k in sizes) <= limit
        if 0 < sizes[key] <= limit:
            assert cache.read(key) == key.encode() * sizes[key], "what was just written is there"
    cache.resources.update(dict.fromkeys("abcdef", "a model"))
    cache.keep_only(kept)
    assert cache.resources.keys() == kept & set("abcdef")
    assert all(cache.read(key) is None for key in set(sizes) - kept)
    cache.clear()
    assert not cache.resources and all(cache.read(key) is None for key in sizes)


def test_the_newest_folder_with_the_same_jobs_is_found_and_a_busy_one_is_left_alone(tmp_path: Path) -> None:
    about = {"identity": "one"}

    def begun(name: str, identity: str) -> Path:
        with open_sweep_folder(None, tmp_path / "d" / name, tmp_path, {"identity": identity}, anew=True) as made:
            return made.path

    begun("1", "one"), begun("2", "one"), begun("3", "two")
    (tmp_path / "d" / "4").mkdir()
    (tmp_path / "d" / "4" / "sweep.json").write_text('{"identity": "on')
    with open_sweep_folder(None, tmp_path / "d" / "5", tmp_path, about, anew=False) as mine:
        assert mine.path.name == "2"
        with open_sweep_folder(None, tmp_path / "d" / "6", tmp_path, about, anew=False) as other:
            assert other.path.name == "1", "the newest is busy: the one before"
            with open_sweep_folder(None, tmp_path / "d" / "6", tmp_path, about, anew=False) as third:
                assert third.path.name == "6", "both are busy: a new one"
        with open_sweep_folder(None, tmp_path / "d" / "6", tmp_path, about, anew=True) as fourth:
            assert fourth.path.name.startswith("6-"), "never a folder that is there already"
    strangers = tmp_path / "data"
    (strangers / "0" / "images").mkdir(parents=True)
    with pytest.raises(ConfigError, match="holds other files than a sweep's"):
        open_sweep_folder(strangers, strangers, tmp_path, about, anew=False).__enter__()
    assert not (strangers / ".lock").exists()


def test_an_outcome_is_read_from_whatever_a_kill_has_left(tmp_path: Path) -> None:
    sweep = SweepFolder(path=tmp_path)
    assert sweep.outcome(0).status == "missing"
    (tmp_path / "0").mkdir()
    for text in ("", '{"status": "comp', "[]", '{"schema_version": 2, "status": "completed"}'):
        (tmp_path / "0" / "record.json").write_text(text)
        assert sweep.outcome(0).status == "missing", "a damaged record: the job runs again"
    interruption = Failure(stage="load", type="KeyboardInterrupt", message="interrupted")
    for values, status in (
        ({"status": "interrupted"}, "unfinished"),
        ({"status": "interrupted", "error": interruption}, "interrupted"),
        ({"status": "failed", "error": Failure(stage="load", type="RunError", message="a\nb")}, "failed"),
        ({"identity": "i", "config": {"measure": {}, "steps": 4}}, "completed"),
    ):
        write_record(tmp_path / "0", makers.record(**values))
        assert sweep.outcome(0).status == status
    assert sweep.outcome(0).identity == "i"
    sweep.mark_lost(0, "killed")
    assert (sweep.outcome(0).status, sweep.outcome(0).reason) == ("lost", "killed")
    sweep.clear(0)
    assert sweep.outcome(0).status == "missing"
    assert list((tmp_path / "0").iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "shortened"),
    [
        (["cache.residual_diff_threshold", "steps"], ["residual_diff_threshold", "steps"]),
        (["cache.start", "other.start"], ["cache.start", "other.start"]),
        (["a.cache.start", "b.cache.start", "start"], ["a.cache.start", "b.cache.start", "start"]),
    ],
)
def test_a_swept_key_is_called_by_as_little_as_tells_it_apart(keys: list[str], shortened: list[str]) -> None:
    assert list(shorten_to_parts(keys).values()) == shortened
