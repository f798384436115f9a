"""The table of what ranks cost on a CPU is the committed results, and those hold what the document says of them."""

from __future__ import annotations

import json

from benchmarks.marked import read_marked
from benchmarks.parallel_cpu import CACHES, DOCUMENT, KINDS, RESULTS, make_table

FIGURES = json.loads((RESULTS / "parallel_cpu.json").read_text(encoding="utf-8"))


def test_the_document_has_the_committed_figures() -> None:
    assert read_marked(DOCUMENT, "measured") == make_table(FIGURES)


def test_ranks_decided_as_one_process_in_every_setting() -> None:
    assert set(FIGURES["settings"]) == {f"{kind}, {cache}" for kind in KINDS for cache in CACHES}
    assert all(setting["decisions_of_one_process"] for setting in FIGURES["settings"].values())


def test_a_run_that_decided_otherwise_is_said() -> None:
    changed = {name: {**setting, "decisions_of_one_process": False} for name, setting in FIGURES["settings"].items()}
    assert "In not every run" in make_table({**FIGURES, "settings": changed})
