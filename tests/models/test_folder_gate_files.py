"""Which files of a model folder are checked: all that a loader could read, or the folder is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_folder_gate import make_folder
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.folder_gate import check_folder
from wavespeed_runner.models.weights.identity import identify_weights

UNREAD = {
    "digits": '{"a": ' + "9" * 101 + "}",
    "deep": "[" * 105 + "]" * 105,
    "cut off": '{"a": ',
    "empty": "",
    "zero": "\0",
}


@pytest.mark.parametrize("text", UNREAD.values(), ids=UNREAD.keys())
@pytest.mark.parametrize(
    "name",
    [
        "config.4.0.0.json", "config.4.0+x.index.0.json", "tokenizer.json", "tokenizer.4.0.0.json.txt", "other.json",
        "Config.JSON", "vocab.json", "chat_template.json", "model.safetensors.index.json", "qformer_tokenizer/a.json",
    ],
)  # fmt: skip
def test_what_a_loader_may_read_and_our_bounds_do_not_let_us_read_is_refused(
    tmp_path: Path, name: str, text: str
) -> None:
    file = make_folder(tmp_path) / "text_encoder" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"{file.name} cannot be read as JSON: ")):
        check_folder("model.repo=x", tmp_path)


def test_a_link_to_nowhere_is_refused(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "text_encoder" / "generation_config.json").symlink_to(tmp_path / "nothing")
    with pytest.raises(ConfigError, match=r"generation_config\.json cannot be read as JSON: "):
        check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "config.4.0+x.index.0.json", "config.index.json", "x.safetensors.index.json", "x.bin.index.json",
        "config.safetensors.index.json", "tokenizer_config.4.json.bak", "qformer_tokenizer/tokenizer_config.json",
        "CONFIG.JSON", "config.4.0.0.json.old",
    ],
)  # fmt: skip
def test_every_file_is_checked_whatever_its_name_is_said_to_mean(tmp_path: Path, name: str) -> None:
    file = make_folder(tmp_path) / "text_encoder" / name
    file.parent.mkdir(exist_ok=True)
    asks: list[dict[str, Any]] = [{"auto_map": {"AutoModel": "a.B"}}]
    asks += [{"_attn_implementation": "evil/kernels"}] if "config" in name.lower() else []
    for asked in asks:
        file.write_text(json.dumps({"weight_map": {}, **asked}))
        with pytest.raises(ConfigError, match=rf"{re.escape(file.name)}:? .*asks for code"):
            check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize("key", ["configuration_files", "fast_tokenizer_files"])
def test_no_other_file_stands_in_for_the_usual_one(tmp_path: Path, key: str) -> None:
    usual = {"configuration_files": "config.json", "fast_tokenizer_files": "tokenizer.json"}[key]
    check_folder("model.repo=x", make_folder(tmp_path / "usual", {key: [usual]}))
    for value in ([usual, usual.replace(".", ".4.0.0.")], "x.json", [["config.4.0.0.json"]]):
        name = str(value).replace("/", "")
        with pytest.raises(ConfigError, match=rf"{key} = .* has another file stand in for {usual}; remove {key}"):
            check_folder("model.repo=x", make_folder(tmp_path / name, {key: value}))


LARGE = [
    ("vocab.txt", 65), ("merges.txt", 65), ("spiece.model", 65), ("tokenizer.model", 65), ("bpe.codes", 65),
    ("words", 65), ("chat_template.jinja", 2), ("additional_chat_templates/tools.jinja", 2),
]  # fmt: skip


@pytest.mark.parametrize(("name", "mebibytes"), LARGE)
def test_files_of_a_tokenizer_that_are_no_json_are_bounded(tmp_path: Path, name: str, mebibytes: int) -> None:
    file = make_folder(tmp_path) / "text_encoder" / name
    file.parent.mkdir(exist_ok=True)
    with file.open("wb") as stream:
        stream.truncate(mebibytes * 2**20)  # a hole: nothing is written
    with pytest.raises(
        ConfigError, match=re.escape(f"{file.name} is not read: {mebibytes * 2**20} bytes, and at most")
    ):
        check_folder("model.repo=x", tmp_path)
    with file.open("wb") as stream:
        stream.truncate(mebibytes * 2**19)
    check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize("name", ["model.fp16.safetensors", "model.onnx_data", "pytorch_model.bin", "README.md"])
def test_files_that_no_tokenizer_reads_may_be_large(tmp_path: Path, name: str) -> None:
    file = make_folder(tmp_path) / "text_encoder" / name
    with file.open("wb") as stream:
        stream.truncate(2**33)
    check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize("name", ["vocab.txt", "chat_template.jinja", "fifo"])
def test_a_pipe_is_no_vocabulary(tmp_path: Path, name: str) -> None:
    os.mkfifo(make_folder(tmp_path) / "text_encoder" / name)
    with pytest.raises(ConfigError, match=f"{name} is not read: not a regular file"):
        check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "processor_config.json", "chat_template.json"])
@pytest.mark.parametrize("template", ["x" * (2**20 + 1), [{"name": "a", "template": "x" * (2**20 + 1)}]])
def test_a_chat_template_inside_json_is_bounded(tmp_path: Path, name: str, template: Any) -> None:
    file = make_folder(tmp_path) / "text_encoder" / name
    file.write_text(json.dumps({"chat_template": template}))
    with pytest.raises(ConfigError, match="chat_template has more than 1048576 characters"):
        check_folder("model.repo=x", tmp_path)


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path: Path) -> None:
    folder, blobs = tmp_path / "model", tmp_path / "blobs"
    component = make_folder(folder) / "text_encoder"
    blobs.mkdir()
    (component / "config.json").rename(blobs / "a1")
    (component / "config.json").symlink_to("../../blobs/a1")
    check_folder("model.repo=x", folder)
    (component / "inside").symlink_to("..")
    with pytest.raises(ConfigError, match=r"^model\.repo=x: the folder inside is a link to another folder"):
        check_folder("model.repo=x", folder)


@pytest.mark.parametrize("target", ["/proc", "/", "../other", "text_encoder"])
def test_a_component_that_is_a_link_is_refused(tmp_path: Path, target: str) -> None:
    folder = make_folder(tmp_path / "model")
    (tmp_path / "other").mkdir()
    (folder / "vae").symlink_to(target)
    (folder / "unnamed").symlink_to("/")  # of no component: nobody looks
    with pytest.raises(ConfigError, match=r"^model\.repo=x: the folder vae is a link to another folder, .*copies"):
        check_folder("model.repo=x", folder)


def test_a_folder_that_cannot_be_read_or_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_folder(tmp_path)
    monkeypatch.setattr("wavespeed_runner.inputs.limits.MAX_FOLDER_ENTRIES", 9)
    for i in range(9):
        (tmp_path / "text_encoder" / f"{i}.md").touch()
    with pytest.raises(ConfigError, match=r"^model\.repo=x: the folder text_encoder has more than 9 entries"):
        check_folder("model.repo=x", tmp_path)

    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("os.scandir", refuse)  # root may read anything
    with pytest.raises(ConfigError, match=r"^model\.repo=x: the folder .* cannot be read: Permission denied$"):
        check_folder("model.repo=x", tmp_path)


def test_folders_inside_each_other_are_not_walked(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    deep, places = folder / "text_encoder", []
    for _ in range(300):
        deep = deep / "d"
        places.append(deep)
    try:
        deep.mkdir(parents=True)
        check_folder("model.repo=x", folder)
        before = identify_weights(str(folder), None)
        (places[2] / "a.json").write_text("{")
        after = identify_weights(str(folder), None)
        (places[9] / "a.json").write_text("{")
        assert before != after == identify_weights(str(folder), None)
    finally:
        shutil.rmtree(folder / "text_encoder")
