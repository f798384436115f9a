"""What the tuner found: the table is that of the committed figures, and the searches can be made again from them."""

from __future__ import annotations

import json

import pytest

from benchmarks.marked import read_marked
from benchmarks.peers.prompts import tuning
from benchmarks.tune import DOCUMENT, PROMPTS, RESULTS, SEEDS, make_table, search
from wavespeed_runner.config.paths import PACKAGE

KNOWN = [name for name in PROMPTS if (RESULTS / f"tune_{name}.json").exists()]


def load(name: str) -> dict[str, object]:
    data: dict[str, object] = json.loads((RESULTS / f"tune_{name}.json").read_text())
    return data


def test_the_table_is_that_of_the_committed_results() -> None:
    shown = read_marked(DOCUMENT, "searches")
    assert KNOWN and shown == "\n".join(line for name in KNOWN for line in make_table(load(name)))


@pytest.mark.parametrize("name", KNOWN)
def test_a_search_made_again_finds_the_same(name: str) -> None:
    data = load(name)
    assert all(len(one["ssim"]) == PROMPTS[name] for one in data["settings"])  # type: ignore[attr-defined]
    runs = data["searches"]["32"]["0.97"]  # type: ignore[index]
    again = search(data, 0.97, 32, 3)
    assert len(runs) == SEEDS and again.pop("found") == runs[3].pop("found") and again == pytest.approx(runs[3])


def test_the_captions_are_those_of_the_package() -> None:
    assert (PACKAGE / "prompts" / "tuning.txt").read_text().splitlines() == tuning()
