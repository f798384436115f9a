"""Rivals in the same time: the tables are the committed results, and a rival is never slower than what it is beside."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.fitted import DOCUMENT, MODELS, OWN
from benchmarks.fitted import load as load_fitted
from benchmarks.marked import read_marked
from benchmarks.peers.__main__ import RESULTS
from benchmarks.peers.equal_time_table import compare_medians, find_time, make_table
from benchmarks.peers.prompts import unseen


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"equal_time_{name}.json").read_text(encoding="utf-8"))
    return found


def test_the_document_has_the_committed_figures() -> None:
    shown = read_marked(DOCUMENT, "equal time")
    assert shown == "\n".join(make_table(load(name)) for name in MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_every_fit_is_there_with_the_images_that_benchmarks_fitted_has(model: str) -> None:
    results = load(model)
    assert [prompt["text"] for prompt in results["prompts"]] == [prompt.text for prompt in unseen()]
    found = {one["name"]: one.get("ssim") for one in results["settings"]}
    for one in load_fitted(model)["settings"]:
        if one["setting"] in OWN:
            assert np.allclose(found[f"{one['setting']} {one['evaluations']}"], one["ssim"], atol=2e-3)
    assert {one["by"] for one in results["settings"]} == {"reference", "theirs", "plain", "ours"}


def setting(name: str, by: str, seconds: float, ssim: list[float]) -> dict[str, Any]:
    """Of two rounds with one caption each; the second was twice as slow."""
    steps = int(name.split()[-1]) if name.startswith("sampler") else None
    figures = {"cpu_seconds": [seconds, 2 * seconds], "ssim": ssim}
    return {"name": name, "group": name.split()[0], "by": by, "steps": steps, **figures}


def test_a_rival_takes_no_longer() -> None:
    settings = [
        setting("no cache", "reference", 1.0, [1.0, 1.0]),
        setting("sampler=fitted 6", "ours", 0.3, [0.9, 0.94]),
        setting("slow", "theirs", 0.33, [0.99, 0.99]),
        setting("quick", "theirs", 0.315, [0.91, 0.89]),
        setting("sampler=unipc 6", "plain", 0.35, [0.8, 0.84]),
        setting("sampler=unipc 7", "plain", 0.36, [0.9, 0.94]),
        {"name": "other", "group": "other", "by": "theirs", "cannot": "ValueError: no"},
    ]
    assert find_time(settings[2], settings[0], [1, 1]) == pytest.approx(0.33)
    text = make_table({"model": "m", "steps": 28, "rounds": [1, 1], "settings": settings})
    (line,) = [line for line in text.splitlines() if line.startswith("| `sampler=fitted` 6")]
    assert "| 30 % | .920 / .920 | .900; +0.020" in line and "`quick`, 32 %" in line and "slow" not in line
    assert "`unipc 6`, 35 %" in line, "as many evaluations, on a busy machine"
    assert "- other: ValueError: no" in text
    settings.pop(3)
    assert "none so fast" in make_table({"model": "m", "steps": 28, "rounds": [1, 1], "settings": settings})


def test_medians_are_compared_in_pairs() -> None:
    rng = np.random.default_rng(1)
    theirs = rng.uniform(0.5, 0.9, 64)
    low, middle, high = compare_medians((theirs + 0.05).tolist(), theirs.tolist())
    assert low == pytest.approx(0.05) and middle == pytest.approx(0.05) and high == pytest.approx(0.05)
