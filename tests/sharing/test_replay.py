"""Replay: the same images again from an image, a record or a config, and nothing else from what a stranger sends."""

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
from wavespeed_runner.sharing import replay

Finished = tuple[Path, dict[str, Any]]
Replayed = Callable[..., tuple[int, str, str]]


@pytest.fixture
def replayed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Replayed:
    """`replayed(path, *values)` in an empty folder: exit status, stdout, stderr."""
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")

    def run(path: Path, *values: str) -> tuple[int, str, str]:
        status = main(["replay", str(path), *values])
        return status, *capsys.readouterr()

    return run


def refused(result: tuple[int, str, str], words: str) -> None:
    """Exit status 2, one line with these words, and nothing written."""
    status, out, err = result
    assert (status, out) == (2, "") and err.count("\n") == 1 and words in err, result
    assert list(Path().iterdir()) == []


def image_of(finished: Finished, part: str = "images") -> Path:
    return min((finished[0] / part).iterdir())


def with_config(finished: Finished, target: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """The finished run's first image with other metadata."""
    image, texts = read_png(image_of(finished))
    about = json.loads(texts[IMAGE_KEY])
    change(about["config"])
    write_png(target, image, metadata={IMAGE_KEY: json.dumps(about)})
    return target


@pytest.mark.parametrize("part", ["images", "reference"])
def test_a_image_gives_the_same_image(finished: Finished, replayed: Replayed, part: str) -> None:
    status, out, _ = replayed(image_of(finished, part))
    assert status == 0 and "identical, 1 of 1 images" in out
    (again,) = Path("outputs/runs").glob("*/*-replay/images/*.png")
    assert (read_png(again)[0] == read_png(image_of(finished, part))[0]).all()


MEASURED = {
    "warmup": "0", "repeats": "2", "difference_gain": "2.5", "reference_steps": "8", "in_turn": "true",
    "noise_floor": "full",
}  # fmt: skip
"""Every key of `measure` but `reference`, which takes the others' point away; none at its default."""


def test_a_image_that_was_measured_in_every_way_gives_the_same(
    composed: Any, replayed: Replayed, tmp_path: Path
) -> None:
    assert {*MEASURED, "reference"} == {field.name for field in fields(MeasureConfig)}
    config = composed("measure=default", *(f"measure.{key}={value}" for key, value in MEASURED.items()))
    default = asdict(MeasureConfig())
    assert all(config["measure"][key] != default[key] for key in MEASURED)
    record = run_as_data(build_plan({**config, "outputs": str(tmp_path / "outputs")}), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    status, out, err = replayed(image_of((tmp_path / "run", record)))
    assert status == 0 and "identical, 1 of 1 images" in out, err


@pytest.mark.parametrize("key", [*MEASURED, "reference"])
def test_no_key_of_measure_stands_in_the_way(finished: Finished, tmp_path: Path, key: str) -> None:
    value = yaml.safe_load(MEASURED.get(key, "false"))
    image = with_config(finished, tmp_path / "x.png", lambda c: c["measure"].update({key: value}))
    plan, _ = replay._planned(image, {})
    assert not plan.config.measure.reference and not plan.config.measure.in_turn


@pytest.mark.parametrize("name", ["record.json", "config.yaml"])
def test_a_record_and_the_config_beside_it_give_all_images_again(
    finished: Finished, replayed: Replayed, family: Any, name: str
) -> None:
    calls = family()
    status, out, _ = replayed(finished[0] / name)
    assert status == 0 and "identical, 2 of 2 images" in out
    assert calls.count("load") == 1 and calls.count("decode") == 4, "nothing comes from a store"


def test_a_record_needs_no_prompt_file(finished: Finished, replayed: Replayed, tmp_path: Path) -> None:
    moved = shutil.copy(finished[0] / "record.json", tmp_path)
    record = json.loads(Path(moved).read_text())
    record["config"]["prompts"]["path"] = "/not/there.txt"
    Path(moved).write_text(json.dumps(record))
    assert replayed(Path(moved))[0] == 0
    (again,) = Path("outputs/runs").glob("*/*-replay/record.json")
    assert json.loads(again.read_text())["plan"]["prompts"] == list(PROMPTS)


def test_a_config_alone_has_nothing_to_compare_with(finished: Finished, replayed: Replayed, tmp_path: Path) -> None:
    shutil.copy(finished[0] / "config.yaml", tmp_path)
    (tmp_path / "mine.txt").write_text("a green star\n")
    status, out, _ = replayed(tmp_path / "config.yaml", f"prompts.path={tmp_path / 'mine.txt'}")
    assert status == 0 and "no earlier result to compare with" in out


def test_prompts_are_not_given_to_a_record_that_has_its_own(
    finished: Finished, replayed: Replayed, tmp_path: Path
) -> None:
    (tmp_path / "mine.txt").write_text("a green star\n")
    mine = f"prompts.path={tmp_path / 'mine.txt'}"
    refused(replayed(finished[0] / "record.json", mine), f"error: {mine}: ")


def test_a_prompt_is_text_also_where_it_looks_like_an_interpolation(
    composed: Any, replayed: Replayed, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("${oc.env:HOME}\n${cache.name}\n")
    config = composed("steps=1", "prompt=null") | {"prompts": {"path": str(tmp_path / "prompts.txt")}}
    record = run_as_data(build_plan({**config, "outputs": str(tmp_path / "outputs")}), tmp_path / "run", [])
    for path in [*(tmp_path / sample["file"].replace("images", "run/images") for sample in record["samples"])]:
        assert replayed(path)[0] == 0
    assert replayed(tmp_path / "run" / "record.json")[0] == 0


def test_another_prompt_in_the_config_beside_a_record_is_followed(
    finished: Finished, replayed: Replayed, tmp_path: Path
) -> None:
    shutil.copytree(finished[0], tmp_path / "run")
    edited = tmp_path / "run" / "config.yaml"
    edited.write_text(
        edited.read_text().replace("prompt: null", "prompt: a green star").replace("steps: 6", "steps: 1")
    )
    assert replayed(edited)[0] == 2, "no step lies inside the cache's window"
    edited.write_text(edited.read_text().replace("steps: 1\n", "steps: 2\n"))
    status, out, _ = replayed(edited)
    assert status == 1 and "not identical, 0 of 2" in out and "the config was edited" in out
    (again,) = Path("outputs/runs").glob("*/*-replay/record.json")
    assert json.loads(again.read_text())["plan"]["prompts"] == ["a green star"]


def test_an_edited_pixel_is_noticed(finished: Finished, replayed: Replayed, tmp_path: Path) -> None:
    pixels, texts = read_png(image_of(finished))
    pixels = pixels.copy()
    pixels[0, 0, 0] ^= 1
    write_png(tmp_path / "edited.png", pixels, metadata=texts)
    status, out, _ = replayed(tmp_path / "edited.png")
    assert status == 1 and "not identical, 0 of 1" in out and "the file was edited" in out


def test_other_versions_are_named(finished: Finished, replayed: Replayed, tmp_path: Path) -> None:
    record = json.loads((finished[0] / "record.json").read_text())
    record["environment"]["versions"]["torch"] = "0.1"
    record["fingerprint"] = "0" * 64
    record["samples"][0]["pixels_sha256"] = "0" * 64
    (tmp_path / "record.json").write_text(json.dumps(record))
    status, out, _ = replayed(tmp_path / "record.json")
    assert status == 1 and "not identical, 1 of 2 images are the same; what changed: torch 0.1 -> " in out


def test_outputs_in_a_image_are_ignored_and_on_the_command_line_are_not(
    finished: Finished, replayed: Replayed, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    hostile = with_config(finished, tmp_path / "x.png", lambda c: c.update(outputs=str(elsewhere), dry_run=True))
    assert replayed(hostile)[0] == 0 and not elsewhere.exists()
    assert replayed(hostile, f"outputs={elsewhere}")[0] == 0 and elsewhere.exists()


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "code": (lambda c: c["model"].update(_target_="os.system"), "model._target_: configs hold no code"),
    "a secret": (lambda c: c.update(device="${oc.env:HOME}"), "only plain interpolations"),
    "hydra": (lambda c: c.update(hydra={"run": {"dir": "/tmp/x"}}), "hydra"),
    "a pickle": (lambda c: c["model"].update(init="pretrained", repo="x.ckpt"), "model.repo=x.ckpt"),
    "an unknown name": (lambda c: c["cache"].update(name="os.system"), "nothing of that name is registered"),
    "a name that is no text": (lambda c: c["cache"].update(name=["x"]), "nothing that a run has left"),
    "a prompt that is no text": (lambda c: c.update(prompt=["x"]), "nothing that a run has left"),
    "text for a group": (lambda c: c.update(model="${device}"), "nothing that a run has left"),
    "a missing key": (lambda c: c.pop("measure"), "nothing that a run has left"),
    "an unknown key": (lambda c: c["model"].update(trust_remote_code=True), "trust_remote_code: no such key"),
    "a wrong type": (lambda c: c.update(steps="many"), "steps"),
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_config_in_a_image_is_refused_in_one_line(
    finished: Finished, replayed: Replayed, tmp_path: Path, attack: str
) -> None:
    change, words = HOSTILE[attack]
    refused(replayed(with_config(finished, tmp_path / "x.png", change)), words)


def test_a_file_elsewhere_is_not_read_as_prompts(finished: Finished, replayed: Replayed, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret\n")
    config = yaml.safe_load((finished[0] / "config.yaml").read_text())
    config["prompts"]["path"] = str(tmp_path / "secret")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    refused(replayed(tmp_path / "config.yaml"), "prompts.path=")


NOTHING_OF_OURS: dict[str, tuple[str, bytes]] = {
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


@pytest.mark.parametrize("what", NOTHING_OF_OURS)
def test_a_file_that_no_run_has_left_is_refused_in_one_line(replayed: Replayed, tmp_path: Path, what: str) -> None:
    name, content = NOTHING_OF_OURS[what]
    (tmp_path / name).write_bytes(content)
    refused(replayed(tmp_path / name), name)


def test_a_image_of_another_program_is_refused(replayed: Replayed, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    refused(replayed(tmp_path / "x.png"), "carries no config of ours")


def test_a_difference_image_is_refused(finished: Finished, replayed: Replayed) -> None:
    refused(replayed(image_of(finished, "difference")), "carries no config of ours")


def test_a_missing_file_and_a_folder_are_refused(replayed: Replayed, tmp_path: Path) -> None:
    refused(replayed(tmp_path / "nothing.png"), "no such file")
    refused(replayed(tmp_path), "no such file")


def test_one_file_is_needed(replayed: Replayed, finished: Finished) -> None:
    refused(replayed(image_of(finished), "seed=3"), "seed=3: no such key")


def test_a_strangers_image_may_not_have_another_one_read(
    finished: Finished, tmp_path: Path, replayed: Replayed
) -> None:
    (tmp_path / "secret.png").write_bytes(image_of(finished).read_bytes())
    image = str(tmp_path / "secret.png")
    stages = {"image": {"stage": "read_image", "inputs": {}, "options": {"path": image}}}

    def by_stage(config: dict[str, Any]) -> None:
        config["graph"]["stages"] |= stages

    evil = with_config(finished, tmp_path / "a.png", lambda config: config.update(image=image))
    refused(replayed(evil), f"image={image}: a config file may name a relative")
    evil = with_config(finished, tmp_path / "b.png", by_stage)
    refused(replayed(evil), f"graph.stages.image.options.path={image}: a config file may name a relative")


def test_a_image_that_started_from_another_is_run_again_with_that_one(
    composed: Callable[..., dict[str, Any]], tmp_path: Path, replayed: Replayed
) -> None:
    image = tmp_path / "photo.png"
    Image.effect_mandelbrot((64, 64), (-2, -1.5, 1, 1.5), 50).save(image)
    config = {**composed("graph=image_to_image"), "image": str(image), "outputs": str(tmp_path / "outputs")}
    record = run_as_data(build_plan(config), tmp_path / "run", [])
    assert record["status"] == "completed", record["error"]
    (made,) = (tmp_path / "run" / "images").iterdir()
    refused(replayed(made), "give another on the command line, image=FILE")
    status, out, _ = replayed(made, f"image={image}")
    assert status == 0 and "identical, 1 of 1" in out
