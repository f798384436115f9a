"""How much longer a tokenizer.json may make a text, and what its lists may hold."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.models.test_folder_gate import make_folder
from wavespeed_runner.errors import ConfigError
from wavespeed_runner.models.weights.folder_gate import check_folder
from wavespeed_runner.models.weights.tokenizer_gate import refuse_added_tokens, refuse_tokenizer


def table(*texts: bytes) -> dict[str, Any]:
    """SentencePiece's table of characters: a trie, and what its characters stand for."""
    raw = (8).to_bytes(4, "little") + b"\1" * 8 + b"".join(text + b"\0" for text in texts)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(raw).decode()}


def replace(content: str, **pattern: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern or {"String": "a"}, "content": content}


def sequence(key: str, *parts: Any) -> dict[str, Any]:
    return {"type": "Sequence", key: list(parts)}


def template(*single: Any, ids: int = 1) -> dict[str, Any]:
    tokens = {"</s>": {"id": "</s>", "ids": [2] * ids, "tokens": ["</s>"] * ids}}
    return {"type": "TemplateProcessing", "single": list(single), "pair": [], "special_tokens": tokens}


TEXT, END = {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
NFKC = table(b" ", "\ufdfa".encode(), b"x" * 33)
SPLIT = {"type": "Split", "pattern": {"Regex": "\\s"}, "behavior": "Isolated", "invert": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
META = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always"}

PUBLISHED: dict[str, dict[str, Any]] = {
    "T5": {
        "normalizer": sequence("normalizers", NFKC, replace(" ", Regex=" {2,}")),
        "pre_tokenizer": sequence("pretokenizers", {"type": "WhitespaceSplit"}, META),
        "post_processor": template(TEXT, END),
        "decoder": META,
    },
    "ALBERT": {
        "normalizer": sequence(
            "normalizers", replace('"', String="``"), replace('"', String="''"), {"type": "NFKD"},
            {"type": "StripAccents"}, {"type": "Lowercase"}, NFKC, replace(" ", Regex=" {2,}"),
        ),
        "pre_tokenizer": META,
        "post_processor": template(END, TEXT, END),
    },
    "CLIP": {
        "normalizer": sequence("normalizers", {"type": "NFC"}, replace(" ", Regex="\\s+"), {"type": "Lowercase"}),
        "pre_tokenizer": sequence("pretokenizers", SPLIT, BYTES),
        "post_processor": {"type": "RobertaProcessing", "sep": ["e", 1], "cls": ["s", 0]},
        "decoder": {"type": "ByteLevel"},
    },
    "Llama": {
        "normalizer": sequence("normalizers", {"type": "Prepend", "prepend": "_"}, replace("_", String=" ")),
        "post_processor": sequence("processors", BYTES, template(END, TEXT)),
        "decoder": sequence("decoders", replace(" ", String="_"), {"type": "ByteFallback"}, {"type": "Fuse"}),
    },
    "DeepSeek": {"pre_tokenizer": sequence("pretokenizers", SPLIT, SPLIT, SPLIT, BYTES), "normalizer": None},
    "Gemma": {
        "normalizer": replace("_", String=" "),
        "added_tokens": [{"id": i, "content": f"<unused{i}>"} for i in range(6500)],
    },
}  # fmt: skip


def check(folder: Path, parts: dict[str, Any], name: str = "tokenizer.json") -> None:
    make_folder(folder)
    model = {"type": "WordPiece", "max_input_chars_per_word": 100, "vocab": {"length": 10**12}}
    (folder / "text_encoder" / name).write_text(json.dumps({"version": "1.0", "model": model, **parts}))
    check_folder("model.repo=x", folder)


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_published_tokenizers_do_passes(tmp_path: Path, name: str) -> None:
    check(tmp_path, PUBLISHED[name])


TEN = [replace("a" * 10)] * 10
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "ten times ten": ({"normalizer": sequence("normalizers", *TEN)}, "normalizer makes a text more than 5000 times"),
    "nested": (
        {"normalizer": sequence("normalizers", sequence("normalizers", *TEN[:5]), *TEN[:5])},
        "normalizer makes a text more than 5000 times",
    ),
    "made short between": (
        {"normalizer": sequence("normalizers", *[replace("a" * 10), replace("", String="b" * 9)] * 5)},
        "normalizer makes a text more than",
    ),
    "a regex that finds nothing": ({"normalizer": replace("a" * 6000, Regex="")}, "normalizer makes a text more than"),
    "in front": ({"normalizer": {"type": "Prepend", "prepend": "a" * 10**5}}, "normalizer makes a text more than"),
    "a table": ({"normalizer": table(b"a", b"x" * 65)}, "precompiled_charsmap makes 65 bytes of a character"),
    "tables": ({"normalizer": sequence("normalizers", NFKC, NFKC, NFKC, NFKC)}, "normalizer makes a text more than"),
    "no table": (
        {"normalizer": {"type": "Precompiled", "precompiled_charsmap": 3}},
        "precompiled_charsmap is no base64",
    ),
    "bytes of bytes": ({"pre_tokenizer": sequence("pretokenizers", *[BYTES] * 10)}, "pre_tokenizer makes a text more"),
    "one after the other": (
        {"normalizer": sequence("normalizers", *TEN[:3]), "pre_tokenizer": sequence("pretokenizers", BYTES, BYTES)},
        "pre_tokenizer makes a text more than",
    ),
    "unknown parts": (
        {"pre_tokenizer": sequence("pretokenizers", *[{"type": "New"}] * 9)},
        "pre_tokenizer makes a text",
    ),
    "tokens around it": ({"post_processor": template(*[END] * 101)}, "single puts up to 101 tokens around a text"),
    "ids of a token": ({"post_processor": template(TEXT, END, ids=51)}, "single puts up to 102 tokens around a text"),
    "the text again and again": (
        {"post_processor": sequence("processors", *[template(*[TEXT] * 10)] * 4)},
        "post_processor makes a text more than",
    ),
    "a decoder": ({"decoder": sequence("decoders", *TEN)}, "decoder makes a text more than"),
    "parts": (
        {"normalizer": sequence("normalizers", *[{"type": "Strip"}] * 1001)},
        "normalizer has more than 1000 values",
    ),
    "added": ({"added_tokens": [{}] * 20_001}, "added_tokens has 20001 entries; at most 20000"),
    "words": ({"model": {"max_input_chars_per_word": 2**40}}, "max_input_chars_per_word = 1099511627776 is too large"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_makes_a_text_endless_is_refused(tmp_path: Path, name: str) -> None:
    parts, words = HOSTILE[name]
    with pytest.raises(ConfigError, match=rf"^model\.repo=x: text_encoder/tokenizer\.json: .*{re.escape(words)}"):
        check(tmp_path, parts)


def test_a_tokenizer_is_known_by_what_it_holds_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"text_encoder/words\.json: normalizer makes a text more than"):
        check(tmp_path, HOSTILE["nested"][0], "words.json")


def test_a_list_is_no_tokenizer(tmp_path: Path) -> None:
    (make_folder(tmp_path) / "text_encoder" / "tokenizer.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"tokenizer\.json is not an object, so no tokenizer"):
        check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json"])
def test_files_of_added_words_are_counted_too(tmp_path: Path, name: str) -> None:
    words: Any = dict.fromkeys(map(str, range(20_001)), 1)
    held = words if name == "added_tokens.json" else {"additional_special_tokens": list(words)}
    (make_folder(tmp_path) / "text_encoder" / name).write_text(json.dumps(held))
    with pytest.raises(ConfigError, match=rf"{re.escape(name)}: \w+ has 20001 entries; at most 20000"):
        check_folder("model.repo=x", tmp_path)


@pytest.mark.parametrize("number", [10**9, -1, 2_000_000, "7", 1.5])
def test_numbers_of_tokens_are_those_of_a_vocabulary(number: object) -> None:
    model = {"model": {"type": "BPE", "vocab": {}, "merges": []}}
    special = {"a": {"id": "a", "ids": [number], "tokens": ["a"]}}
    for part in (
        {"added_tokens": [{"id": number, "content": "cat"}]},
        {"post_processor": {"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": special}},
    ):
        with pytest.raises(ConfigError, match=r"^x: .*has the number .*; 0 to 1999999 are possible"):
            refuse_tokenizer("x", {**model, **part})
    with pytest.raises(ConfigError, match=r"^x: added_tokens: 'cat' has the number "):
        refuse_added_tokens("x", {"added_tokens": {"cat": number}})
    refuse_tokenizer("x", {**model, "added_tokens": [{"id": 49407, "content": "cat"}]})
