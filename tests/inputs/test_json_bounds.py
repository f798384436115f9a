"""Values of JSON, and tensors of a header, are counted before anything is made of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wavespeed_runner.inputs import limits
from wavespeed_runner.inputs.documents import parse_json, read_json, read_safetensors_header
from wavespeed_runner.inputs.files import InputError


@pytest.mark.parametrize("unit", ["[],", "{},", "0,", '"a",', '{"a":0},', "[[[0]]],"])
def test_json_of_very_many_values_is_refused_before_it_is_parsed(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"[{unit * 20_000}0]"
    assert len(parse_json(text, most=80_001)) == 20_001
    monkeypatch.setattr(json, "loads", None)
    with pytest.raises(InputError, match="more than 10000 values"):
        parse_json(text, most=10_000)
    with pytest.raises(InputError, match="more than 10000 values"):
        parse_json('"' * 100_000 + text, most=10_000)


def test_commas_and_brackets_in_texts_are_no_values() -> None:
    for text in (",[{" * 50_000, '\\"],["' * 50_000, "\\"):
        assert parse_json(json.dumps({text: text}), most=10) == {text: text}
    for cut in ('{"' + '\\",' * 50_000, '"' + "\\" * 99_999):
        with pytest.raises(InputError, match="not JSON"):
            parse_json(cut, most=10)


def test_what_describes_a_model_is_small_and_what_describes_a_tokenizer_is_not(tmp_path: Path) -> None:
    text = f"[{'0,' * limits.MAX_MODEL_CONFIG_VALUES}0]"
    for name in ("model_index.json", "config.json", "scheduler_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="more than 100000 values"):
            read_json(tmp_path / name)
        (tmp_path / name).write_text(" " * limits.MAX_MODEL_CONFIG_BYTES + "{}")
        with pytest.raises(InputError, match="at most"):
            read_json(tmp_path / name)
    for name in ("tokenizer_config.json", "tokenizer.json", "vocab.json", "model.safetensors.index.json"):
        (tmp_path / name).write_text(text)
        assert len(read_json(tmp_path / name)) == limits.MAX_MODEL_CONFIG_VALUES + 1


@pytest.mark.parametrize(
    ("entry", "words"),
    [('"{}":0', "describes 50001 tensors; at most 50000"), ('"{}":[' + "[]," * 15 + "[]]", "more than 800000 values")],
)
def test_a_header_of_very_many_tensors_is_refused(tmp_path: Path, entry: str, words: str) -> None:
    header = ("{" + ",".join(entry.replace("{}", str(i)) for i in range(limits.MAX_TENSORS + 1)) + "}").encode()
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match=words):
        read_safetensors_header(file)
