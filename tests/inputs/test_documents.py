"""JSON, YAML and safetensors headers: what plain readers read is read the same, and what is hostile is refused soon."""

from __future__ import annotations

import json
import math
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf._utils import get_yaml_loader

from wavespeed_runner.inputs import limits
from wavespeed_runner.inputs.documents import parse_json, read_safetensors_header, refuse_many
from wavespeed_runner.inputs.files import InputError
from wavespeed_runner.inputs.yaml_documents import check_yaml, parse_yaml, read_yaml_as_text

ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10)
)
"""Ten thousand million values in ten lines."""

OMEGACONF = get_yaml_loader()

HOSTILE_YAML = {
    "lists in lists": "[" * 100_000,
    "mappings in mappings": "{a: " * 100_000,
    "blocks in blocks": "- " * 5_000 + "x",
    "aliases of aliases": ALIASES,
    "an alias of itself": "a: &a [*a]",
    "a long number": f"a: {'9' * 5000}",
    "a long float": f"a: 0.{'9' * 5000}",
    "a long hexadecimal": f"a: 0x{'f' * 5000}",
    "a long number in base 60": "a: " + ":".join(["59"] * 1000),
    "half a character": 'a: "\\ud800"',
    "a day that is none": "a: 2020-02-31",
}
HOSTILE_JSON = {
    "lists in lists": "[" * 100_000,
    "closed lists in lists": "[" * 100_000 + "]" * 100_000,
    "less deep": "[" * 500 + "]" * 500,
    "mappings in mappings": '{"a":' * 100_000,
    "a key twice": '{"a": 1, "b": [{"a": 1, "a": 2}]}',
    "a long number": "9" * 5000,
    "a long float": f"0.{'9' * 5000}",
    "a large float": "1e999",
    "not a number": "NaN",
    "infinity": "[-Infinity]",
    "half a character": '"\\ud800"',
    "half a character as a key": '{"\\uDFFF": 1}',
    "nothing": "",
    "cut off": '{"a": ',
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_refused_within_a_second(name: str) -> None:
    began = time.monotonic()
    with pytest.raises((InputError, yaml.YAMLError)):
        parse_yaml(HOSTILE_YAML[name])
    assert time.monotonic() - began < 1


@pytest.mark.parametrize("name", [name for name in HOSTILE_YAML if "day" not in name])
def test_hostile_yaml_is_refused_whatever_version_it_claims_to_be(name: str) -> None:
    """The reader of Hydra accepts versions that PyYAML's other one does not."""
    for loader in (OMEGACONF, yaml.SafeLoader, yaml.CSafeLoader):
        began = time.process_time()
        with pytest.raises((InputError, yaml.YAMLError, ValueError)):
            text = f"%YAML 1.3\n---\n{HOSTILE_YAML[name]}"
            check_yaml(text, loader=loader)
            assert loader is not yaml.CSafeLoader
            yaml.load(text, Loader=loader)
        assert time.process_time() - began < 1


def test_json_is_nested_as_deep_as_it_may_be_and_no_deeper() -> None:
    deepest = "[" * limits.MAX_DEPTH + "1" + "]" * limits.MAX_DEPTH
    assert parse_json(deepest) and parse_json(f'{{"a": "{"[{" * 1000}", "b": 1}}')
    for text in (f"[{deepest}]", f'{{"a": {deepest}}}'):
        with pytest.raises(InputError, match="nested too deep"):
            parse_json(text)


def test_a_long_text_takes_no_memory_besides_its_own() -> None:
    text = json.dumps({"prompt": "x\\" * 2_000_000, "rest": [{}] * 200})
    tracemalloc.start()
    try:
        parse_json(text)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text)
    finally:
        tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.integers() | st.dictionaries(st.text(max_size=2), st.none())) | st.none()))
def test_all_values_are_counted(data: Any) -> None:
    def count_all(node: Any) -> int:
        inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        return 1 + sum(map(count_all, inner))

    refuse_many(data, count_all(data))
    with pytest.raises(InputError, match="more than"):
        refuse_many(data, count_all(data) - 1)


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused_within_a_second(name: str) -> None:
    began = time.monotonic()
    for content in (HOSTILE_JSON[name], HOSTILE_JSON[name].encode()):
        with pytest.raises(InputError):
            parse_json(content)
    assert time.monotonic() - began < 1


def test_what_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InputError, match="not valid Unicode"):
        parse_json(b'"\xff"')


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
DATA = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(DATA, st.booleans())
def test_plain_json_is_read_as_python_reads_it(data: Any, ascii_only: bool) -> None:
    text = json.dumps(data, ensure_ascii=ascii_only)
    assert parse_json(text) == parse_json(text.encode()) == json.loads(text)


@settings(max_examples=150, deadline=None)
@given(DATA, st.sampled_from([None, True, False]))
def test_plain_yaml_is_read_as_pyyaml_reads_it(data: Any, flow: bool | None) -> None:
    text = yaml.safe_dump(data, allow_unicode=True, default_flow_style=flow)
    assert parse_yaml(text) == yaml.safe_load(text)


PIECES = st.sampled_from(
    ["[", "]", "{", "}", ":", ": ", ",", "- ", "\n", "  ", "&a ", "*a ", "<<: *a\n", '"', "'", "!!python/object:os.x ",
     "!!int ", "!!binary ", "|", ">", "?", "%YAML 9\n", "---\n", "9" * 150, "1e999", ".nan", "0x", "\ud800", "\0", "\t",
     "a", "é", "\\ud800", "#", "2020-99-99", "=", "1:2:3"]
)  # fmt: skip


@settings(max_examples=500, deadline=2000)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_yaml_is_data_or_refused(text: str) -> None:
    try:
        data = parse_yaml(text)
    except (InputError, yaml.YAMLError):
        return
    yaml.safe_dump(data, allow_unicode=True).encode()  # keys may be dates or numbers, which JSON has not


@settings(max_examples=500, deadline=2000)
@given(st.lists(PIECES, max_size=40).map("".join))
def test_any_json_is_data_or_refused(text: str) -> None:
    try:
        data = parse_json(text)
    except InputError:
        return
    json.dumps(data, allow_nan=False, ensure_ascii=False).encode()


def test_a_long_text_of_digits_is_text(tmp_path: Path) -> None:
    digits = "7" * 5000
    assert parse_yaml(f"a: '{digits}'") == parse_json(f'{{"a": "{digits}"}}') == {"a": digits}
    (tmp_path / "x.yaml").write_text("time: 4:00:00\nextra: {a: 1e3}\n")
    assert read_yaml_as_text(tmp_path / "x.yaml") == {"time": "4:00:00", "extra": {"a": "1e3"}}


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (b"[" * 50_000, "not JSON that can be read: nested too deep"),
        (b"[]", "not an object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number of 5000 characters"),
        (b"{", "not JSON that can be read"),
        (b'{"a": NaN}', "NaN is not a number"),
    ],
)
def test_a_hostile_header_is_refused(tmp_path: Path, header: bytes, words: str) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(InputError, match=words):
        read_safetensors_header(file)


@pytest.mark.parametrize(("length", "words"), [(2**63, "cut off inside"), (200_000_000, "claims 200000000 bytes")])
def test_a_header_is_no_longer_than_it_may_be(tmp_path: Path, length: int, words: str) -> None:
    file = tmp_path / "x.safetensors"
    with file.open("wb") as stream:
        stream.write(length.to_bytes(8, "little"))
        stream.truncate(300_000_000)
    with pytest.raises(InputError, match=words):
        read_safetensors_header(file)


def test_numbers_of_a_hundred_digits_stay_finite() -> None:
    assert math.isfinite(parse_yaml("a: " + "9" * limits.MAX_DIGITS)["a"])
