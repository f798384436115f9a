"""Replay of files that a stranger sends: nothing but a run's output is accepted, and it can do nothing else."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.sharing.replay_helpers import Finished, Replay, check_refused, first_image, write_with_config
from wavespeed_runner.sharing.replay import build_replay_plan

HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "code": (lambda c: c["model"].update(_target_="os.system"), "model._target_: configs hold no code"),
    "a secret": (lambda c: c.update(device="${oc.env:HOME}"), "only plain interpolations"),
    "hydra": (lambda c: c.update(hydra={"run": {"dir": "/tmp/x"}}), "hydra"),
    "a pickle": (lambda c: c["model"].update(init="pretrained", repo="x.ckpt"), "model.repo=x.ckpt"),
    "an unknown name": (lambda c: c["cache"].update(name="os.system"), "nothing of that name is registered"),
    "a name that is not text": (lambda c: c["cache"].update(name=["x"]), "cache.name=['x']: a name is needed"),
    "a name that is a mapping": (lambda c: c["model"].update(name={"a": 1}), "model.name={'a': 1}: a name is needed"),
    "very many stages": (
        lambda c: c["graph"]["stages"].update({f"load{n}": {"stage": "load"} for n in range(3000)}),
        "stages, and a graph has at most 200",
    ),
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


def test_a_file_raises_no_limit_and_the_command_line_does(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    def ask(config: dict[str, Any]) -> None:
        config.update(limits={"images": 10**12, "steps": 10**15}, num_images_per_prompt=12_000)
        config["model"].update(init="pretrained", repo="x.ckpt")

    evil = write_with_config(finished, tmp_path / "x.png", ask)
    check_refused(replay(evil), "raise it on the command line, limits.images=")
    check_refused(replay(evil, "limits.images=30000"), "model.repo=x.ckpt: ")
    check_refused(replay(evil, "limits.images=many"), "limits.images=many: a whole number above 0")


def test_a_config_of_very_many_values_is_refused_soon(finished: Finished, replay: Replay, tmp_path: Path) -> None:
    def fill(config: dict[str, Any]) -> None:
        config["graph"]["stages"]["load"]["options"] = {f"x{i}": [1] * 100 for i in range(1000)}

    evil, began = write_with_config(finished, tmp_path / "x.png", fill), time.process_time()
    check_refused(replay(evil), "x.png: its config: more than 10000 values")
    record = json.loads((finished[0] / "record.json").read_text())
    for change in (
        {"config": {**record["config"], "graph": {"x": [1] * 100_000}}},
        {"overrides": ["seed=1"] * 2000},
    ):
        (tmp_path / "record.json").write_text(json.dumps({**record, **change}))
        check_refused(replay(tmp_path / "record.json"), "record.json: not a readable record: more than")
    assert time.process_time() - began < 3


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


def test_an_image_without_a_config_is_not_decoded(
    replay: Replay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "x.png")
    monkeypatch.setattr("wavespeed_runner.sharing.image_config.read_png_hash", lambda _: pytest.fail("decoded"))
    check_refused(replay(tmp_path / "x.png"), "no config of wavespeed_runner in the metadata")


def test_a_difference_image_is_refused(finished: Finished, replay: Replay) -> None:
    check_refused(replay(first_image(finished, "difference")), "no config of wavespeed_runner in the metadata")


def test_a_missing_file_and_a_folder_are_refused(replay: Replay, tmp_path: Path) -> None:
    check_refused(replay(tmp_path / "nothing.png"), "no such file")
    check_refused(replay(tmp_path), "no record here; give the folder of a run")


def test_an_unknown_key_is_refused(replay: Replay, finished: Finished) -> None:
    check_refused(replay(first_image(finished), "steps=3"), "steps=3: no such key")


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


COMPILED = {"compile": {"name": "torch_compile", "regional": True, "options": {"cpp.cxx": ["sh"]}}}


@pytest.mark.parametrize(
    ("part", "words", "typed"),
    [
        (COMPILED, "compile.options.cpp.cxx.0=sh: a config file may", 'compile.options={"cpp.cxx": ["sh"]}'),
        (
            {"compile": {"name": "torch_compile", "regional": True, "options": '{"cpp.cxx": ["sh"]}'}},
            "compile.options.cpp.cxx=['sh']: a config file may",
            "compile.options=null",
        ),
        ({"attention": {"name": "flash_hub"}}, "attention.name=flash_hub: it downloads", "attention=none"),
        (
            {"graph": {"output": "x", "stages": {"x": {"stage": "load", "options": COMPILED}}}},
            "graph.stages.x.options.compile.options.cpp.cxx.0=sh: a config file may",
            None,
        ),
    ],
)
def test_an_image_or_a_record_of_a_stranger_chooses_no_code(
    finished: Finished, tmp_path: Path, replay: Replay, part: dict[str, Any], words: str, typed: str | None
) -> None:
    evil = write_with_config(finished, tmp_path / "a.png", lambda config: config.update(part))
    check_refused(replay(evil), words)
    record = tmp_path / "record.json"
    record.write_text(json.dumps({**finished[1], "config": finished[1]["config"] | part}))
    check_refused(replay(record), words)
    if typed is not None:
        build_replay_plan(evil, dict([typed.split("=", 1)]))
