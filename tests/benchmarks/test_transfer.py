"""How far fitted numbers carry: captions that nothing else uses, refusals as the runner words them, the tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.few_steps import RESULTS
from benchmarks.fitted import DOCUMENT, MODELS
from benchmarks.marked import read_marked
from benchmarks.peers.prompts import calibration, fresh, judged, moved, unseen
from benchmarks.transfer import CONDITIONS, EVALUATIONS, draw_image, list_settings, merge, name_numbers, run
from benchmarks.transfer_table import make_table
from training.scenes import held_out, parse
from wavespeed_runner.caching.calibration.file import load as load_calibration


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"transfer_{name}.json").read_text(encoding="utf-8"))
    return found


def test_the_document_has_the_committed_figures() -> None:
    shown = read_marked(DOCUMENT, "transfer")
    assert shown == "\n".join(make_table(load(name)) for name in MODELS)


def test_the_captions_are_used_for_nothing_else() -> None:
    lists = moved()
    contents = [parse(prompt.text) for prompts in lists.values() for prompt in prompts]
    assert len(set(contents)) == len(contents) == 96 and all(held_out(p.text) for ps in lists.values() for p in ps)
    others = (*judged(), *fresh(), *unseen(), *calibration())
    assert not {parse(prompt.text) for prompt in others} & set(contents)
    assert not {prompt.seed for prompt in others} & {prompt.seed for ps in lists.values() for prompt in ps}
    words = {length: {len(prompt.text.split()) for prompt in prompts} for length, prompts in lists.items()}
    assert max(words["short"]) <= 8 and min(words["long"]) >= 14


@pytest.mark.parametrize("model", MODELS)
def test_every_condition_was_measured_or_refused(model: str) -> None:
    found = load(model)["settings"]
    names = [condition.name for condition in CONDITIONS if model in condition.models]
    assert list(dict.fromkeys(one["condition"] for one in found)) == names
    assert len(found) == len(names) * (2 + len(EVALUATIONS))
    assert all(len(one["ssim"]) == 32 if "ssim" in one else one["refused_named"] for one in found)
    assert not any("refused" in one for one in found if one["condition"] in ("as fitted", "bfloat16", "other seeds"))


def test_the_best_plain_solvers_and_overrides_that_replace_others() -> None:
    assert [name.split()[-1] for name, _ in list_settings("demo")] == ["6", "8", "6", "8", "8"]
    assert merge(["seed=1", "width=64"], ["seed=2"]) == ["seed=2", "width=64"]


def test_a_run_that_is_refused_takes_numbers_whose_key_is_changed(tmp_path: Path) -> None:
    given, setting = ["model=demo", "device=cpu", "width=96"], ["sampler=fitted", "steps=6"]
    named = name_numbers(tmp_path, given, setting)
    assert named == f"sampler.calibration={tmp_path}/numbers.yaml"
    assert load_calibration(tmp_path / "numbers.yaml").key["width"] == 96
    draw_image(tmp_path / "i.png")
    image = ["graph=image_to_image", "strength=0.6", f"image={tmp_path}/i.png", f"outputs={tmp_path}"]
    refused = run(tmp_path, None, [*given[:2], *image], ["cache=fitted", "cache.computed=8"])
    assert "it is for starts=null, this run has image" in refused["refused"] and "ssim" not in refused
