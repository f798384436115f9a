"""`from=EXPERIMENT` gives the plan of `experiment=NAME`, whatever planning fills in: numbers of calibrations, seeds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sharing.test_recipe import plan_of
from tests.sharing.test_to_experiment import planned_record
from wavespeed_runner.config.compose import compose_job, composer, list_options
from wavespeed_runner.config.error_messages import EXPLAINED
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_from_data
from wavespeed_runner.sharing.document import format_yaml
from wavespeed_runner.sharing.recipe import take_recipe
from wavespeed_runner.sharing.to_experiment import convert_to_experiment


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def check_experiment(folder: Path, text: str, name: str = "exported") -> None:
    """Of an experiment, `from=FILE` gives the plan that `experiment=NAME` gives. Raises what that one refuses."""
    file = folder / "experiment" / f"{name}.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    with composer(str(folder)):
        there = build_plan(compose_job([f"experiment={name}"], [f"experiment={name}"]))
    here = plan_of(f"from={file}")
    assert (here.fingerprint, here.identity) == (there.fingerprint, there.identity), text


FILLED_IN = [
    ["cache=planned"],
    ["cache=fitted"],
    ["cache=planned", "cache/predictor=fitted", "cache.computed=7"],
    ["sampler=fitted", "steps=8"],
    ["model=demo_unet", "cache=fitted", "measure.reference_sampler=own", "seeds=per_prompt"],
    ["model=demo_unet", "sampler=fitted", "steps=8"],
]


@pytest.mark.parametrize("settings", FILLED_IN, ids=" ".join)
def test_an_experiment_whose_numbers_are_of_a_calibration_gives_its_plan(settings: list[str], tmp_path: Path) -> None:
    document, _ = convert_to_experiment(record_from_data(planned_record(*settings)))
    check_experiment(tmp_path, format_yaml(document))


def test_an_experiment_that_draws_its_seed_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "drawn.yaml"
    file.write_text("# @package _global_\nseed: -1\ncache: {computed: 7}\ndefaults:\n- override /cache: planned\n")
    taken, _ = take_recipe([f"from={file}"])
    assert sorted(taken) == ["cache.computed=7", "cache=planned", "seed=-1"]


@pytest.mark.slow
def test_an_experiment_of_any_cache_and_sampler_gives_its_plan(tmp_path: Path) -> None:
    with composer(None):
        left = {group: list_options(group) for group in ("cache", "sampler")}
    tried: set[str] = set()
    while left["cache"] or left["sampler"]:
        chosen = {group: options[0] for group, options in left.items() if options}
        # Both at once where they go together, so that there are half as many.
        for parts in (chosen, *({group: chosen[group]} for group in chosen)):
            lines = [f"- override /{group}: {option}" for group, option in parts.items()]
            try:
                check_experiment(tmp_path, "\n".join(["# @package _global_", "defaults:", *lines]))
            except EXPLAINED:  # not of this model, or not together
                continue
            tried |= {f"{group}={option}" for group, option in parts.items()}
            if parts is chosen:
                break
        left = {group: options[1:] for group, options in left.items()}
    assert {"cache=planned", "cache=fbcache", "cache=teacache", "sampler=unipc", "sampler=heun_karras"} <= tried
    assert len(tried) > 40
