"""Replay of an image, a record or a config: the same images again, or what differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from tests.conftest import PROMPTS, run_as_data
from tests.records.makers import record
from tests.sharing.replay_helpers import Finished, Replay, check_refused, first_image, write_with_config
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.measure import MeasureConfig
from wavespeed_runner.inputs.files import resolve_path
from wavespeed_runner.media.images import read_png, write_png
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.file import write_record
from wavespeed_runner.sharing.replay import build_replay_plan
from wavespeed_runner.sharing.source import read_source


@pytest.mark.parametrize("part", ["images", "reference"])
def test_an_image_gives_the_same_image(finished: Finished, replay: Replay, part: str) -> None:
    status, out, _ = replay(first_image(finished, part))
    assert status == 0 and "identical, 1 of 1 images" in out
    (replayed,) = Path("outputs/runs").glob("*/*-replay/images/*.png")
    assert (read_png(replayed)[0] == read_png(first_image(finished, part))[0]).all()


MEASURED = {
    "warmup": "0", "repeats": "2", "difference_gain": "2.5", "reference_steps": "8",
    "reference_sampler": "own", "in_turn": "true",
    "noise_floor": "full",
}  # fmt: skip
"""Every key of `measure` except `reference`, which makes the others pointless. None has its default."""


def test_an_image_of_a_run_with_all_measurements_gives_the_same_image(
    composed: Any, replay: Replay, tmp_path: Path
) -> None:
    assert {*MEASURED, "reference"} == {field.name for field in fields(MeasureConfig)}
    config = composed("measure=default", *(f"measure.{key}={value}" for key, value in MEASURED.items()))
    default = asdict(MeasureConfig())
    assert all(config["measure"][key] != default[key] for key in MEASURED)
    record = run_as_data(build_plan({**config, "outputs": str(tmp_path / "outputs")}), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    status, out, err = replay(first_image((tmp_path / "run", record)))
    assert status == 0 and "identical, 1 of 1 images" in out, err


def test_a_runs_folder_is_its_record(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    status, out, _ = replay(finished[0])
    assert status == 0 and "replay: identical" in out
    (tmp_path / "empty").mkdir()
    status, _, err = replay(tmp_path / "empty")
    assert status == 2 and "empty: no record here; give the folder of a run" in err


@pytest.mark.parametrize("key", [*MEASURED, "reference"])
def test_no_key_of_measure_prevents_a_replay(finished: Finished, tmp_path: Path, key: str) -> None:
    value = yaml.safe_load(MEASURED.get(key, "false"))
    image = write_with_config(finished, tmp_path / "x.png", lambda c: c["measure"].update({key: value}))
    plan, _ = build_replay_plan(image, {})
    assert not plan.config.measure.reference and not plan.config.measure.in_turn


@pytest.mark.parametrize("name", ["record.json", "config.yaml"])
def test_a_record_and_its_config_give_all_images_again(
    finished: Finished, replay: Replay, family: Any, name: str
) -> None:
    calls = family()
    status, out, _ = replay(finished[0] / name)
    assert status == 0 and "identical, 2 of 2 images" in out
    assert calls.count("load") == 1 and calls.count("decode") == 4, "nothing comes from the store"


def test_a_record_needs_no_prompt_file(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    moved = shutil.copy(finished[0] / "record.json", tmp_path)
    record = json.loads(Path(moved).read_text())
    record["config"]["prompts"]["path"] = "/not/there.txt"
    Path(moved).write_text(json.dumps(record))
    assert replay(Path(moved))[0] == 0
    (replayed,) = Path("outputs/runs").glob("*/*-replay/record.json")
    assert json.loads(replayed.read_text())["plan"]["prompts"] == list(PROMPTS)


def test_a_config_without_a_record_has_nothing_to_compare_with(
    finished: Finished, replay: Replay, tmp_path: Path
) -> None:
    shutil.copy(finished[0] / "config.yaml", tmp_path)
    (tmp_path / "mine.txt").write_text("a green star\n")
    status, out, _ = replay(tmp_path / "config.yaml", f"prompts.path={tmp_path / 'mine.txt'}")
    assert status == 0 and "no earlier result to compare with" in out


def test_prompts_for_a_record_that_has_prompts_are_refused(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("a green star\n")
    mine = f"prompts.path={tmp_path / 'mine.txt'}"
    check_refused(replay(finished[0] / "record.json", mine), f"error: {mine}: ")


def test_a_prompt_that_looks_like_an_interpolation_is_text(composed: Any, replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("${oc.env:HOME}\n${cache.name}\n")
    config = composed("steps=1", "prompt=null") | {"prompts": {"path": str(tmp_path / "prompts.txt")}}
    record = run_as_data(build_plan({**config, "outputs": str(tmp_path / "outputs")}), tmp_path / "run", [])
    for path in [*(tmp_path / sample["file"].replace("images", "run/images") for sample in record["samples"])]:
        assert replay(path)[0] == 0
    assert replay(tmp_path / "run" / "record.json")[0] == 0


def test_an_edited_prompt_in_the_config_beside_a_record_is_used(
    finished: Finished, replay: Replay, tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    edited = tmp_path / "run" / "config.yaml"
    edited.write_text(
        edited.read_text().replace("prompt: null", "prompt: a green star").replace("steps: 6", "steps: 1")
    )
    assert replay(edited)[0] == 2, "no step lies inside the cache's window"
    edited.write_text(edited.read_text().replace("steps: 1\n", "steps: 2\n"))
    status, out, _ = replay(edited)
    assert status == 1 and "not identical, 0 of 2" in out and "the config was edited" in out
    (replayed,) = Path("outputs/runs").glob("*/*-replay/record.json")
    assert json.loads(replayed.read_text())["plan"]["prompts"] == ["a green star"]


def test_an_edited_pixel_is_noticed(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    pixels, texts = read_png(first_image(finished))
    pixels = pixels.copy()
    pixels[0, 0, 0] ^= 1
    write_png(tmp_path / "edited.png", pixels, metadata=texts)
    status, out, _ = replay(tmp_path / "edited.png")
    assert status == 1 and "not identical, 0 of 1" in out and "the file was edited" in out


def test_other_versions_are_named(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    record = json.loads((finished[0] / "record.json").read_text())
    record["environment"]["versions"]["torch"] = "0.1"
    record["fingerprint"] = "0" * 64
    record["samples"][0]["pixels_sha256"] = "0" * 64
    (tmp_path / "record.json").write_text(json.dumps(record))
    status, out, _ = replay(tmp_path / "record.json")
    assert status == 1 and "not identical, 1 of 2 images are the same; what changed: torch 0.1 -> " in out


def test_only_the_command_line_chooses_the_output_folder(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    hostile = write_with_config(finished, tmp_path / "x.png", lambda c: c.update(outputs=str(elsewhere), dry_run=True))
    assert replay(hostile)[0] == 0 and not elsewhere.exists()
    assert replay(hostile, f"outputs={elsewhere}")[0] == 0 and elsewhere.exists()


def test_where_a_stage_wrote_is_not_replayed(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"

    def write_there(config: dict[str, Any]) -> None:
        config["graph"]["stages"]["load"]["options"] = {"outputs": str(elsewhere)}

    hostile = write_with_config(finished, tmp_path / "x.png", write_there)
    assert replay(hostile)[0] == 0 and not elsewhere.exists()
    (record,) = Path("outputs/runs").glob("*/*-replay/record.json")
    assert "elsewhere" not in record.read_text(encoding="utf-8")


def test_image_to_image_is_replayed_with_the_starting_image(
    composed: Callable[..., dict[str, Any]], tmp_path: Path, replay: Replay
) -> None:
    image = tmp_path / "photo.png"
    Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).save(image)
    config = {**composed("graph=image_to_image"), "image": str(image), "outputs": str(tmp_path / "outputs")}
    record = run_as_data(build_plan(config), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    (image_file,) = (tmp_path / "run" / "images").iterdir()
    check_refused(replay(image_file), "give another on the command line, image=FILE")
    status, out, _ = replay(image_file, f"image={image}")
    assert status == 0 and "identical, 1 of 1" in out


def test_a_run_with_an_adapter_from_elsewhere_is_replayed_and_exported(
    composed: Callable[..., dict[str, Any]], tmp_path: Path, replay: Replay
) -> None:
    """The command line may name any file; what others read from the result may not."""
    lora = shutil.copy(resolve_path("pkg://wavespeed_runner/weights/demo_lora/night.safetensors"), tmp_path)
    typed = ("adapters=lora", f"adapters.path={lora}", "model.init=pretrained", "steps=2", "width=64", "height=64")
    config = {**composed(*typed, "measure=default"), "outputs": str(tmp_path / "outputs")}
    record = run_as_data(build_plan(config), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    (image_file,) = (tmp_path / "run" / "images").iterdir()
    check_refused(replay(image_file), "give another on the command line, adapters.path=FILE")
    status, out, _ = replay(image_file, f"adapters.path={lora}")
    assert status == 0 and "identical, 1 of 1" in out
    assert main(["export", str(tmp_path / "run"), "name=mine"]) == 0
    text = Path("experiment/mine.yaml").read_text()
    assert "path: night.safetensors" in text and str(tmp_path) not in text
    assert "adapters.path=night.safetensors: put this file in the folder where the command runs" in text


def test_a_record_whose_figures_make_no_sense_is_replayed_without_them(tmp_path: Path) -> None:
    """A number typed as text composes, but a summary refuses it; a replay needs only the config."""
    config = {"model": {"name": "flux"}, "measure": {}, "graph": {"stages": {}}, "steps": "4"}
    write_record(tmp_path, record(config=config, fingerprint="abc"))
    read, expected = read_source(tmp_path / "record.json")
    assert read["steps"] == "4" and expected["fingerprint"] == "abc" and expected["claim"] is None
