"""Replay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import PROMPTS, run_as_data
from wavespeed_runner.cli.main import main
from wavespeed_runner.config.measure import MeasureConfig
from wavespeed_runner.media.images import read_png, write_png
from wavespeed_runner.planning.plan import build_plan
from wavespeed_runner.records.new import IMAGE_KEY
from wavespeed_runner.sharing.replay import build_replay_plan

Finished = tuple[Path, dict[str, Any]]
Replay = Callable[..., tuple[int, str, str]]


@pytest.fixture
def replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replay:
    """`replay(path, *values)` in an empty folder: exit status, stdout, stderr."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")

    def run(path: Path, *values: str) -> tuple[int, str, str]:
        status = main(["replay", str(path), *values])
        return status, *capsys.readouterr()

    return run


def check_refused(result: tuple[int, str, str], words: str) -> None:
    """Exit status 2, one line with these words, and nothing written."""
    status, out, err = result
    assert (status, out) == (2, "") and err.count("\n") == 1 and words in err, result
    assert list(Path().iterdir()) == []


def first_image(finished: Finished, part: str = "images") -> Path:
    return min((finished[0] / part).iterdir())


def write_with_config(finished: Finished, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The finished run's first image with other metadata."""
    image, texts = read_png(first_image(finished))
    data = json.loads(texts[IMAGE_KEY])
    change(data["config"])
    write_png(target, image, metadata={IMAGE_KEY: json.dumps(data)})
    return target


@pytest.mark.parametrize("part", ["images", "reference"])
def test_an_image_gives_the_same_image(finished: Finished, replay: Replay, part: str) -> None:
    status, out, _ = replay(first_image(finished, part))
    assert status == 0 and "identical, 1 of 1 images" in out
    (replayed,) = Path("outputs/runs").glob("*/*-replay/images/*.png")
    assert (read_png(replayed)[0] == read_png(first_image(finished, part))[0]).all()


MEASURED = {
    "warmup": "0", "repeats": "2", "difference_gain": "2.5", "reference_steps": "8", "in_turn": "true",
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


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "code": (lambda c: c["model"].update(_target_="os.system"), "model._target_: configs hold no code"),
    "a secret": (lambda c: c.update(device="${oc.env:HOME}"), "only plain interpolations"),
    "hydra": (lambda c: c.update(hydra={"run": {"dir": "/tmp/x"}}), "hydra"),
    "a pickle": (lambda c: c["model"].update(init="pretrained", repo="x.ckpt"), "model.repo=x.ckpt"),
    "an unknown name": (lambda c: c["cache"].update(name="os.system"), "nothing of that name is registered"),
    "a name that is not text": (lambda c: c["cache"].update(name=["x"]), "this is not the output of a run"),
    "a prompt that is not text": (lambda c: c.update(prompt=["x"]), "this is not the output of a run"),
    "text for a group": (lambda c: c.update(model="${device}"), "this is not the output of a run"),
    "a missing key": (lambda c: c.pop("measure"), "this is not the output of a run"),
    "an unknown key": (lambda c: c["model"].update(trust_remote_code=True), "trust_remote_code: no such key"),
    "a wrong type": (lambda c: c.update(steps="many"), "steps"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_config_in_an_image_is_refused_in_one_line(
    finished: Finished, replay: Replay, tmp_path: Path, attack: str
) -> None:
    change, words = HOSTILE[attack]
    check_refused(replay(write_with_config(finished, tmp_path / "x.png", change)), words)


def test_a_prompt_file_elsewhere_is_not_read(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret\n")
    config = yaml.safe_load((finished[0] / "config.yaml").read_text())
    config["prompts"]["path"] = str(tmp_path / "secret")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    check_refused(replay(tmp_path / "config.yaml"), "prompts.path=")


UNREADABLE: dict[str, tuple[str, bytes]] = {
    "a record of another version": ("record.json", b'{"schema_version": 2, "config": {}}'),
    "a record without samples": ("record.json", b'{"schema_version": 1, "config": {}}'),
    "JSON of something else": ("record.json", b"[1, 2]"),
    "broken JSON": ("record.json", b'{"schema_version": 1,'),
    "JSON without an end": ("record.json", b"[" * 100_000),
    "bytes for a record": ("record.json", b"\xff\x00"),
    "bytes for a config": ("config.yaml", b"\xff\x00"),
    "broken YAML": ("config.yaml", b"graph: {"),
    "code in YAML": ("config.yaml", b"graph: !!python/object/apply:os.system [ls]"),
    "YAML that holds itself": ("config.yaml", b"graph: &a {b: *a}"),
    "an experiment": ("mine.yaml", b"steps: 3"),
    "bytes for an image": ("x.png", b"\x89PNG\r\n\x1a\n" + b"x" * 99),
    "an empty image": ("x.png", b""),
    "another kind of file": ("x.jpg", b"x"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_file_that_no_run_wrote_is_refused_in_one_line(replay: Replay, tmp_path: Path, what: str) -> None:
    name, content = UNREADABLE[what]
    (tmp_path / name).write_bytes(content)
    check_refused(replay(tmp_path / name), name)


def test_an_image_of_another_program_is_refused(replay: Replay, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    check_refused(replay(tmp_path / "x.png"), "no config of wavespeed_runner in the metadata")


def test_a_difference_image_is_refused(finished: Finished, replay: Replay) -> None:
    check_refused(replay(first_image(finished, "difference")), "no config of wavespeed_runner in the metadata")


def test_a_missing_file_and_a_folder_are_refused(replay: Replay, tmp_path: Path) -> None:
    check_refused(replay(tmp_path / "nothing.png"), "no such file")
    check_refused(replay(tmp_path), "no such file")


def test_an_unknown_key_is_refused(replay: Replay, finished: Finished) -> None:
    check_refused(replay(first_image(finished), "seed=3"), "seed=3: no such key")


def test_an_image_of_a_stranger_cannot_have_another_file_read(
    finished: Finished, tmp_path: Path, replay: Replay
) -> None:
    (tmp_path / "secret.png").write_bytes(first_image(finished).read_bytes())
    image = str(tmp_path / "secret.png")
    stages = {"image": {"stage": "read_image", "inputs": {}, "options": {"path": image}}}

    def by_stage(config: dict[str, Any]) -> None:
        config["graph"]["stages"] |= stages

    evil = write_with_config(finished, tmp_path / "a.png", lambda config: config.update(image=image))
    check_refused(replay(evil), f"image={image}: a config file may name a relative")
    evil = write_with_config(finished, tmp_path / "b.png", by_stage)
    check_refused(replay(evil), f"graph.stages.image.options.path={image}: a config file may name a relative")


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
