"""The plan: automatic changes are said, what matters is in the fingerprint, and nothing is loaded to make it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wavespeed_runner.cli.plan_text import plan_text
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.planning.plan import Plan, build_plan

Composed = Callable[..., dict[str, Any]]
Planned = Callable[..., Plan]
Planning = Callable[..., Plan]


@pytest.fixture
def planning(composed: Composed, tmp_path: Path) -> Planning:
    """`planning({"model.init": "random"})`: a plan of the tiny model with a cache, some values changed."""

    def plan(values: dict[str, Any] | None = None, *overrides: str) -> Plan:
        data = composed("cache=fbcache", "measure=default", *overrides) | {"outputs": str(tmp_path / "outputs")}
        for key, value in (values or {}).items():
            node = data
            *above, last = key.split(".")
            for name in above:
                node = node[name]
            node[last] = value
        return build_plan(data)

    return plan


def test_the_rehearsals_size_is_a_change_that_is_said(planning: Planning) -> None:
    plan = planning({"width": None, "height": None})
    assert (plan.config.width, plan.config.height) == (128, 128)
    assert [(change.key, change.value) for change in plan.changes] == [("width", 128), ("height", 128)]
    assert "width=128: model.init=tiny runs at a small size" in plan_text(plan)


def test_a_size_that_is_given_stays(planning: Planning) -> None:
    plan = planning({"width": 48, "height": None})
    assert (plan.config.width, plan.config.height) == (48, 128)
    assert [change.key for change in plan.changes] == ["height"]


def test_the_device_is_decided(planning: Planning) -> None:
    assert planning({"device": "auto"}).config.device in ("cpu", "cuda", "mps")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"steps": 0}, "steps=0: at least 1"),
        ({"width": 40}, "width=40"),
        ({"cache.start": 0.9, "cache.end": 0.1}, "0 <= start < end <= 1"),
        ({"prompt": " "}, "prompt=: it is empty"),
        ({"prompt": "word " * 21}, "the model reads 20 tokens"),
        ({"negative_prompt": "x" * 500, "guidance_scale": 2.0}, "the model reads 20 tokens"),
        ({"prompt": None, "prompts.path": "nowhere.txt"}, "prompts.path=nowhere.txt: No such file"),
        ({"outputs": " "}, "outputs=: a folder is needed"),
        ({"outputs": os.devnull}, f"outputs={os.devnull}: {os.devnull} is a file"),
        ({"graph.stages.denoise.options": {"steps": 0}}, "graph.stages.denoise.options: steps=0: at least 1"),
        ({"model.init": "pretrained", "model.repo": "./nowhere"}, "model.repo=./nowhere: no such file or folder"),
    ],
)
def test_what_is_wrong_stops_the_plan(planning: Planning, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as error:
        planning(values)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_nothing_is_written(planning: Planning, tmp_path: Path) -> None:
    plan_text(planning())
    assert list(tmp_path.iterdir()) == []


def test_a_prompt_file_gives_one_image_a_line(planning: Planning, tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("\ufeffa red circle\r\n\n  a blue square  \n", encoding="utf-8")
    plan = planning({"prompt": None, "prompts.path": str(file), "seed": 4})
    assert [(sample.prompt, sample.seed) for sample in plan.samples] == [("a red circle", 4), ("a blue square", 4)]
    assert len(plan.keys) == len(plan.reference_keys) == 2


def test_the_top_level_prompt_wins(planning: Planning) -> None:
    assert [sample.prompt for sample in planning({"prompts.path": "nowhere.txt"}).samples] == ["a red circle"]


MATTERS = {
    "the prompt": {"prompt": "a blue square"},
    "the seed": {"seed": 1},
    "the steps": {"steps": 5},
    "the threshold": {"cache.residual_diff_threshold": 0.5},
    "the window": {"cache.start": 0.3},
    "the hit limit": {"cache.max_consecutive_cache_hits": 2},
    "the sampler": {"sampler": {"name": "euler", "sigmas": "karras"}},
    "the width": {"width": 48},
    "the guidance": {"guidance_scale": 2.0},
    "where weights come from": {"model.init": "random"},
    "the data type": {"model.dtype": "bfloat16"},
    "a stage's own steps": {"graph.stages.denoise.options": {"steps": 7}},
}


def test_what_matters_is_in_the_fingerprint(planning: Planning) -> None:
    fingerprints = [planning(values).fingerprint for values in ({}, *MATTERS.values())]
    assert len(set(fingerprints)) == len(fingerprints), dict(zip(["nothing", *MATTERS], fingerprints, strict=True))


def test_the_negative_prompt_is_in_the_fingerprint(planning: Planning) -> None:
    plans = [planning({"guidance_scale": 2.0, "negative_prompt": text}) for text in ("", "blur")]
    assert plans[0].fingerprint != plans[1].fingerprint


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"outputs": "elsewhere"},
        {"dry_run": True},
        {"rerun": True},
        {"measure.reference": False},
        {"measure.repeats": 3, "measure.warmup": 0},
        {"model.steps": 99, "model.width": 256},
    ],
    ids=["nothing", "outputs", "dry_run", "rerun", "reference", "timing", "defaults that are not used"],
)
def test_how_it_runs_is_not_in_the_fingerprint(planning: Planning, values: dict[str, Any]) -> None:
    assert planning(values).fingerprint == planning().fingerprint


def test_a_cache_is_compared_with_the_same_without_it(planning: Planning) -> None:
    plan = planning()
    assert plan.reference_kind == "run" and plan.reference is not None
    assert plan.reference.nodes["denoise"].options.cache.name == "none"
    ours, theirs = plan.keys[0], plan.reference_keys[0]
    assert {name for name in ours if ours[name] == theirs[name]} == {"sample", "load", "encode"}
    assert "reference  the same with cache=none instead of fbcache" in plan_text(plan)


def test_without_anything_lossy_it_is_its_own_reference(planned: Planned) -> None:
    plan = planned("measure=default")
    assert (plan.reference_kind, plan.reference, plan.reference_keys) == ("self", None, [])
    assert "nothing lossy is on" in plan_text(plan)


def test_no_reference_is_made_where_none_is_asked_for(planning: Planning) -> None:
    plan = planning({"measure.reference": False})
    assert (plan.reference_kind, plan.reference, plan.reference_keys) == ("none", None, [])
    assert "measure.reference=false" in plan_text(plan)


def test_stages_come_after_what_they_take(planning: Planning) -> None:
    graph = planning().graph
    order = list(graph.nodes)
    assert all(
        order.index(s) < order.index(n.name) for n in graph.nodes.values() for s in n.inputs.values() if s in order
    )


def test_the_text_names_warnings_and_their_way_out(planning: Planning) -> None:
    text = plan_text(planning({"steps": 8}))
    assert "unverified few-steps: with 8 steps each one changes much" in text and "; fix: 12 steps or more" in text


def test_the_text_of_a_job_begins_with_its_overrides(planning: Planning) -> None:
    assert plan_text(planning(), ["steps=4", "seed=1"]).startswith("job: steps=4 seed=1\n")
