"""`from=FILE`: the settings of an image, a record, a run or an experiment, run again with changes."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.command_line import CommandLine
from tests.conftest import PROMPTS
from tests.sharing.replay_helpers import Finished, first_image, write_with_config
from tests.sharing.test_replay_refused import HOSTILE
from tests.sharing.test_to_experiment import planned_record
from wavespeed_runner.config.compose import compose_job, composer
from wavespeed_runner.media.images import read_png, write_png
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import record_from_data, write_record
from wavespeed_runner.records.new import IMAGE_KEY
from wavespeed_runner.sharing.recipe import take_recipe

MORE = "measure.reference=false"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(tmp_path, monkeypatch, capsys)


def plan_of(*overrides: str) -> Any:
    """The plan of a command line with a recipe."""
    taken, _ = take_recipe(list(overrides))
    with composer(None):
        return build_plan(compose_job(taken, taken))


def write_planned(folder: Path, *overrides: str) -> tuple[Path, dict[str, Any]]:
    """The record of a run with these overrides that has not begun."""
    record = planned_record(*overrides)
    write_record(folder, record_from_data(record))
    return folder / "record.json", record


def test_a_run_a_record_an_image_and_a_config_give_the_plan_that_they_had(finished: Finished, cli: CommandLine) -> None:
    folder, record = finished
    config = folder / "config.yaml"
    for source in (folder, folder / "record.json", config):
        plan = plan_of(f"from={source}")
        assert plan.fingerprint == record["fingerprint"], source
        assert [sample.prompt for sample in plan.samples] == list(PROMPTS)
    image = first_image(finished)
    about = json.loads(read_png(image)[1][IMAGE_KEY])
    assert plan_of(f"from={image}").fingerprint == about["fingerprint"]


SETTINGS = [
    ["model=sd15", "model.init=tiny", "cache=deepcache", "sampler=dpmpp_2m_karras", "steps=9", "seed=5"],
    ["cache=custom", "cache/signal=first_block_output", "cache/criterion=interval", "cache/predictor=hermite"],
    ["model=flux", "model.init=tiny", "cache=fbcache", "cache.end=0.75", "prompt='a, \"red\" circle: \\'x\\''"],
    ["graph=hires_fix", "model=demo_unet", "steps=12", "+graph.stages.denoise_large.options.steps=20"],
    ["metrics=[scene]", "measure=full", "num_images_per_prompt=2", "seeds=per_prompt"],
    ["cache=planned", "cache.computed=8", "quant=int8_wo", "memory=vae_slicing", "batch_size=2"],
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: settings[0])
def test_a_recipe_gives_the_same_plan(settings: list[str], cli: CommandLine, tmp_path: Path) -> None:
    path, record = write_planned(tmp_path, *settings)
    plan = plan_of(f"from={path}")
    assert (plan.fingerprint, plan.identity) == (record["fingerprint"], record["identity"])


def test_what_is_typed_wins_and_the_plan_says_what_was_taken(finished: Finished, cli: CommandLine) -> None:
    out = cli(f"from={finished[0]}", "seed=7", "cache.residual_diff_threshold=0.1", "dry_run=true").out
    assert ", seed 7, " in out and "cache fbcache" in out
    assert re.search(r"from=\S+: its recipe: .*cache=fbcache.* prompts\.texts=\[2 of them\]", out)
    assert "typed here instead: " in cli(f"from={finished[0]}", "steps=7", "dry_run=true").out
    assert cli.left() == []


def test_a_typed_group_takes_the_place_of_all_that_the_recipe_says_of_it(cli: CommandLine, tmp_path: Path) -> None:
    path, _ = write_planned(tmp_path, "cache=fbcache", "cache/predictor=taylor", "cache.end=0.8", "steps=9")
    plan = plan_of(f"from={path}", "cache=none")
    assert (plan.config.cache.name, plan.config.steps) == ("none", 9)
    plan = plan_of(f"from={path}", "cache/predictor=reuse")
    assert (plan.config.cache.predictor.name, plan.config.cache.end) == ("reuse", 0.8)
    # What follows from the model follows from the new one.
    assert plan_of(f"from={path}", "model=demo_unet", "cache=none").config.sampler.name == "default"


@pytest.mark.parametrize(
    ("typed", "prompts"),
    [
        (["prompt='a star'"], ["a star"]),
        (["prompts=study"], None),
        (["prompts=file", "prompts.path=mine.txt"], ["a green star"]),
        (["prompts.path=mine.txt"], ["a green star"]),
        (["prompts=listed", "prompts.texts=['a','b']"], ["a", "b"]),
    ],
)
def test_typed_prompts_take_the_place_of_the_recipes(
    finished: Finished, cli: CommandLine, typed: list[str], prompts: list[str] | None
) -> None:
    Path("mine.txt").write_text("a green star\n")
    for source in (finished[0], first_image(finished)):
        samples = [sample.prompt for sample in plan_of(f"from={source}", *typed).samples]
        assert samples == prompts if prompts else len(samples) == 16


def test_a_recipe_can_be_swept_and_run(finished: Finished, cli: CommandLine) -> None:
    said = cli("-m", f"from={first_image(finished)}", "seed=1,2", "cache=none", MORE)
    assert said.status == 0, said.err
    records = [json.loads(path.read_text()) for path in sorted(Path("outputs").glob("sweeps/*/*/*/record.json"))]
    assert [record["config"]["seed"] for record in records] == [1, 2]
    assert all(record["plan"]["changes"][0]["key"] == "from" for record in records)
    assert not any("from=" in override for record in records for override in record["overrides"])
    # The record of such a run is a recipe like any other.
    assert plan_of(f"from={next(Path('outputs').glob('sweeps/*/*/0'))}").fingerprint == records[0]["fingerprint"]


def test_a_sweep_that_nobody_could_read_again_is_refused(
    finished: Finished, cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wavespeed_runner.sweeps.folder.MAX_SWEEP_CHARACTERS", 100)
    refusal = cli.refuses_command("-m", f"from={finished[0]}", "seed=1,2")
    assert refusal.startswith("2 jobs have ") and "prompts=file prompts.path=FILE" in refusal


def test_a_recipes_image_is_the_image(finished: Finished, cli: CommandLine) -> None:
    assert cli(f"from={first_image(finished)}", MORE).status == 0
    (again,) = Path("outputs").glob("runs/*/*/images/*.png")
    assert np.array_equal(read_png(again)[0], read_png(first_image(finished))[0])


@pytest.mark.parametrize("attack", sorted(HOSTILE.keys() - {"a secret"}))
def test_a_hostile_recipe_is_refused_in_one_line(
    finished: Finished, cli: CommandLine, tmp_path: Path, attack: str
) -> None:
    change, words = HOSTILE[attack]
    evil = write_with_config(finished, tmp_path / "x.png", change)
    if attack in ("a prompt that is not text", "text for a group", "a missing key"):
        words = "x.png"
    assert words in cli.refuses_command(f"from={evil}", "dry_run=true")


@pytest.mark.parametrize(
    ("key", "value", "typed"),
    [
        ("image", "/etc/hostname.png", "image=pkg://wavespeed_runner/samples/scene.png"),
        ("attention", {"name": "flash_hub"}, "attention=native"),
    ],
)
def test_what_only_the_command_line_may_name_is_typed(
    finished: Finished, cli: CommandLine, tmp_path: Path, key: str, value: Any, typed: str
) -> None:
    def change(config: dict[str, Any]) -> None:
        config.update({key: value, "graph": planned_record("graph=image_to_image")["config"]["graph"]})

    file = write_with_config(finished, tmp_path / "x.png", change)
    assert cli.refuses_command(f"from={file}", "dry_run=true").startswith(key)
    said = cli(f"from={file}", typed, "dry_run=true")
    assert said.status == 0, said.err


def test_a_records_sweep_is_not_taken_and_a_hostile_one_takes_no_time(cli: CommandLine, tmp_path: Path) -> None:
    record = planned_record("steps=9")
    record["overrides"] += ["points=[{steps: 3}]", "hydra.sweeper.params={seed: 1}", "outputs=/tmp/x", "limits.jobs=9"]
    record["overrides"] += [f"+cache@graph.x{number}=fbcache" for number in range(150)]
    write_record(tmp_path, record_from_data(record))
    began = time.process_time()
    taken, _ = take_recipe([f"from={tmp_path}"])
    assert taken == ["steps=9"] and time.process_time() - began < 10


def test_a_config_of_very_many_values_is_refused_or_taken_soon(
    finished: Finished, cli: CommandLine, tmp_path: Path
) -> None:
    def fill(config: dict[str, Any]) -> None:
        config["graph"]["stages"]["load"]["options"] = {f"x{number}": 1 for number in range(3000)}

    began = time.process_time()
    cli.refuses_command(f"from={write_with_config(finished, tmp_path / 'x.png', fill)}", "dry_run=true")
    assert time.process_time() - began < 10


def test_places_limits_and_the_device_are_not_taken(finished: Finished, cli: CommandLine, tmp_path: Path) -> None:
    def change(config: dict[str, Any]) -> None:
        config.update(outputs="/tmp/elsewhere", limits={"images": 10**12}, device="${oc.env:HOME}", dry_run=False)
        config["graph"]["stages"]["denoise"]["options"] = {"outputs": "/tmp/elsewhere"}

    taken, _ = take_recipe([f"from={write_with_config(finished, tmp_path / 'x.png', change)}"])
    assert not any(re.match("outputs|limits|device|dry_run|compile", override) for override in taken)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["from=nothing.png"], "nothing.png: no such file; give an image, a record.json, a run's folder"),
        (["from=."], "no record here"),
        (["from="], "from=: a value is needed"),
        (["from={image}", "from={image}"], "from is given twice"),
        (["from={image}", "experiment=known_answer"], "experiment: not beside from="),
        (["-m", "from={image}", "points=[{seed: 1}]"], "points: not beside from="),
        (["tune", "from={image}", "quality=ssim>=0.9"], "only for a run or a sweep"),
        (["prompts.texts=['a']"], "add prompts=listed"),
        (["prompts=listed"], "prompts.texts: no prompt in it"),
        (["prompts=listed", "prompts.texts=['a',' ']"], "prompts.texts.1: it is empty"),
        (["prompts=listed", "prompts.texts=[a,1.50]"], "prompts.texts.1=1.5: a text is needed"),
    ],
)
def test_misuse_is_refused(finished: Finished, cli: CommandLine, arguments: list[str], words: str) -> None:
    given = [
        argument.format(image=first_image(finished)) if "{image}" in argument else argument for argument in arguments
    ]
    assert words in cli.refuses_command(*given)


def test_an_image_is_exported_without_figures(finished: Finished, cli: CommandLine) -> None:
    image = first_image(finished)
    said = cli("export", str(image), "name=mine")
    assert said.status == 0 and f"check it: python -m wavespeed_runner replay {image}" in said.out
    text = Path("experiment/mine.yaml").read_text()
    assert "claim" not in yaml.safe_load(text) and "one image, which has no figures to claim" in text
    about = json.loads(read_png(image)[1][IMAGE_KEY])
    plan = cli("--config-dir", ".", "experiment=mine", "dry_run=true")
    assert f"fingerprint {about['fingerprint']}" in plan.out
    again = cli("from=experiment/mine.yaml", "dry_run=true")
    assert f"fingerprint {about['fingerprint']}" in again.out
    shutil.rmtree("experiment")
    assert cli("export", str(image), "out=-").out.startswith("# @package _global_\n# python -m wavespeed_runner")


def test_an_image_that_is_none_of_ours_is_not_exported(cli: CommandLine, tmp_path: Path) -> None:
    write_png(tmp_path / "x.png", np.zeros((4, 4, 3), np.uint8), metadata={"Title": "x"})
    assert "no config of wavespeed_runner in the metadata, whose texts are Title" in cli.refuses_command(
        "export", str(tmp_path / "x.png")
    )
