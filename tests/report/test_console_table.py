"""Tables of the console: they break after words, underscores and dots, never in a word, and hold no stand-in."""

from __future__ import annotations

import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.report.records import write_job
from tests.report.test_compare import KEY, many
from tests.report.test_forks import FORKED, with_images
from wavespeed_runner.cli.main import main
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.report.console_table import NOTES, Column, make_table
from wavespeed_runner.sweeps.progress import Progress
from wavespeed_runner.sweeps.status import as_outcome

OTHER = "cache.max_consecutive_cache_hits"
BREAK = re.compile(r"(?<=[_.])|\s+|[|─+-]+")


def drawn(columns: list[Column], rows: list[list[str]], width: int = 80, encoding: str = "utf-8") -> list[str]:
    buffer = io.BytesIO()
    console = Console(file=io.TextIOWrapper(buffer, encoding=encoding, write_through=True), width=width)
    console.print(make_table(console, columns, rows), crop=False)
    return buffer.getvalue().decode(encoding).splitlines()


def pieces(text: str) -> set[str]:
    return {piece for piece in BREAK.split(text) if piece}


NAMES = st.lists(st.text("abcdefgh", min_size=1, max_size=12), min_size=1, max_size=5).flatmap(
    lambda words: st.sampled_from([" ", "_", "."]).map(lambda joint: joint.join(words))
)


@given(heads=st.lists(NAMES, min_size=1, max_size=4), cell=NAMES, width=st.integers(20, 130))
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_word_is_cut(encoding: str, heads: list[str], cell: str, width: int) -> None:
    lines = drawn([Column(head=head) for head in heads], [[cell] * len(heads)], width, encoding)
    said = pieces("\n".join(lines))
    for text in (*heads, cell):
        assert pieces(text) <= said
    least = sum(max(map(len, pieces(head) | pieces(cell))) for head in heads) + 2 * (len(heads) - 1)
    assert len({len(line) for line in lines}) == 1
    assert len(lines[0]) <= max(width, least + sum(text.count("_") + text.count(".") for text in (*heads, cell)))


def test_a_table_with_room_is_not_broken() -> None:
    first, *_ = drawn([Column(head=KEY), Column(head="0.9884 (1 fork)", breaks=NOTES)], [["0.05", "1"]], 120)
    assert first.split() == [KEY, "0.9884", "(1", "fork)"]


def test_numbers_units_and_what_is_in_brackets_stay_whole() -> None:
    columns = [Column(head="a"), Column(head="b", breaks=NOTES), Column(head="c", breaks=NOTES)]
    said = "\n".join(drawn(columns, [["0.123456 v1.25", "418 ms", "0.9884 (12 forks)"]], 10))
    assert {"0.123456", "v1.25"} <= set(said.split())
    assert "418 ms" in said and "(12 forks)" in said and "0.9884 (" not in said


def test_a_long_value_folds_and_control_characters_are_replaced() -> None:
    path = "x" * 100 + "\x1b"
    lines = drawn([Column(head="path"), Column(head="b")], [[path, "1"]], 60)
    assert all(len(line) <= 60 for line in lines)
    assert "".join("".join(lines[2:]).split()).replace("1", "") == "x" * 100 + "?"


@pytest.mark.parametrize("keys", [[KEY], [KEY, OTHER]])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_table_of_a_sweep_at_80_columns(
    keys: list[str], encoding: str, record: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's own sweep, also with forks, which take room."""
    outcomes = {i: as_outcome(record_from_data(with_images(record, FORKED))) for i in (0, 1)}
    jobs: Any = [
        SimpleNamespace(number=i, overrides=[f"{key}={i}" for key in keys], plan=1, skipped="") for i in (0, 1)
    ]
    progress = Progress(Path("sweep"), jobs, keys, outcomes)
    buffer = io.BytesIO()
    file = io.TextIOWrapper(buffer, encoding=encoding, write_through=True)
    monkeypatch.setattr(progress, "console", Console(file=file, width=80))
    progress._table()
    table = buffer.getvalue().decode(encoding)
    assert "?" not in table and len(re.findall(r"\bcompleted\b", table)) == 2
    for word in ("residual_", "diff_", "threshold", *(("consecutive_", "hits") if OTHER in keys else ())):
        assert re.search(rf"(^|\s|_){word}(\s|[|a-z])", table), (word, table)
    assert "(2 forks)" in table and max(map(len, table.splitlines())) <= 80


def test_compare_breaks_keys_after_underscores(
    tmp_path: Path, finished: tuple[Path, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    for name, threshold in (("a", 0.1), ("b", 0.2)):
        made = many(finished[1], [1.0, 1.1], [0.9, 0.91])
        made["config"]["cache"]["residual_diff_threshold"] = threshold
        made["config"]["cache"]["criterion"]["threshold"] = threshold
        write_job(tmp_path / name, made)
    main(["compare", str(tmp_path / "a"), str(tmp_path / "b")])
    said = capsys.readouterr().out
    assert "threshold" in said and not re.search(r"thres\s*$|thresh\w?\s*$", said, re.MULTILINE)
