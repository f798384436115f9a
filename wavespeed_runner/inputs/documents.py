"""Reads JSON and safetensors headers within bounds: values, depth, digits, valid Unicode.

Python's own reader follows a hostile file into the C stack, or into minutes of converting a number. Everything that
others would stumble over later is refused here. YAML is read by `yaml_documents.py`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from . import limits
from .files import InputError, open_regular, read_file, told_as_input_error
from .json_text import decode_json

# Two, each with a set of characters at its beginning, which `re` looks for a hundred times faster than for a choice.
LONG_NUMBER = re.compile(rf"[0-9][0-9]{{{limits.MAX_DIGITS}}}")
LARGE_NUMBER = re.compile(r"[eE]\+?[0-9]{3}")
"""What a number looks like that has too many digits, or might be too large; a text may look so too."""
VALUES_PER_TENSOR = 16
"""In a header: number format, two offsets, a shape of some numbers, and the lists that hold them."""
TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{,]', re.DOTALL)
"""A text, or what stands before a value. The quantifiers give nothing back: no text takes longer than once through."""
SMALL = re.compile(r"(model_index|(?!tokenizer_)(.+_)?config)\.json")
"""Names of files that describe a model; those of tokenizers (`tokenizer_config.json`) may list many tokens."""


def parse_json(content: bytes | str, *, constants: bool = False, most: int = limits.MAX_JSON_VALUES) -> Any:
    """Parses JSON.

    Args:
        content: UTF-8 text.
        constants: accept NaN and infinity, which are no JSON, but which diffusers writes.
        most: values in lists and mappings that are accepted; they are counted before anything is made of them.

    Raises:
        InputError: not JSON, too much memory for its text, more values, nested too deep, a number with too many digits,
            NaN or infinity, text that is not valid Unicode, or a key twice.
    """
    try:
        text = content if isinstance(content, str) else decode_json(content)
        _refuse_values(text, most)
        # Without these, which are called for each number, it takes a quarter of the time.
        is_usual = LONG_NUMBER.search(text) is None and LARGE_NUMBER.search(text) is None
        checks: Any = {} if is_usual else {"parse_int": _parse_int, "parse_float": _parse_float}
        constant = float if constants else _refuse_constant
        data = json.loads(text, parse_constant=constant, object_pairs_hook=_refuse_twice, **checks)
        _refuse_depth(data)
        # Only an escape can stand for half a character; looking for it is quicker than looking at every text.
        if re.search(r"\\u[dD][89a-fA-F]", text):
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeError:
        raise InputError("not valid Unicode") from None
    except RecursionError:
        raise InputError("nested too deep") from None
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"not JSON: {error}") from None
    return data


def _refuse_values(text: str, most: int) -> None:
    """Raises `InputError` for JSON of more than so many values: `[],` is 3 bytes, and later a hundred times as many."""
    # Quick, and enough for nearly all: texts may hold commas and brackets too.
    if text.count(",") + text.count("[") + text.count("{") <= most:
        return
    count = texts = 0
    for token in TOKEN.finditer(text):
        is_text = token[0][0] == '"'
        texts, count = texts + is_text, count + (not is_text)
        if count > most or texts > 2 * most + 2:  # a key and a value each
            raise InputError(f"more than {most} values")


def read_json(file: Path, *, constants: bool = False) -> Any:
    """Reads a JSON file, within bounds that go by its name; `constants` as in `parse_json`.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: as `parse_json`, or not a regular file of an acceptable size.
    """
    max_bytes, most = limits.MAX_JSON_BYTES, limits.MAX_JSON_VALUES
    if SMALL.fullmatch(file.name):
        max_bytes, most = limits.MAX_MODEL_CONFIG_BYTES, limits.MAX_MODEL_CONFIG_VALUES
    return parse_json(read_file(file, max_bytes), constants=constants, most=most)


def refuse_many(data: Any, most: int = limits.MAX_CONFIG_NODES) -> None:
    """Raises `InputError` for more than so many values in lists and mappings, or for too many interpolations.

    Each of them takes its time later.
    """
    count, interpolations, level = 0, 0, [data]
    while level:
        count += len(level)
        if count > most:
            raise InputError(f"more than {most} values")
        interpolations += sum(refuse_interpolations(value) for value in level if isinstance(value, str))
        refuse_all_interpolations(interpolations)
        nodes = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, list | dict))
        level = [value for node in nodes for value in node]


def refuse_interpolations(text: str) -> int:
    """Counts the interpolations of a text. Raises `InputError` for more than `MAX_INTERPOLATIONS`."""
    count = text.count("${")
    if count > limits.MAX_INTERPOLATIONS:
        raise InputError(f"{count} times '${{' in one value; at most {limits.MAX_INTERPOLATIONS} interpolations")
    return count


def refuse_all_interpolations(count: int) -> None:
    """Raises `InputError` for more than `MAX_ALL_INTERPOLATIONS`."""
    if count > limits.MAX_ALL_INTERPOLATIONS:
        raise InputError(f"more than {limits.MAX_ALL_INTERPOLATIONS} interpolations, '${{'")


def _refuse_depth(data: Any) -> None:
    """Raises `InputError` for more than `MAX_DEPTH` levels of lists and mappings."""
    kinds = {list, dict}
    level = [data] if type(data) in kinds else []
    for _ in range(limits.MAX_DEPTH):
        level = [v for node in level for v in (node.values() if type(node) is dict else node) if type(v) in kinds]
        if not level:
            return
    raise InputError("nested too deep")


def _parse_int(text: str) -> int:
    refuse_digits(text)
    return int(text)


def _parse_float(text: str) -> float:
    refuse_digits(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise InputError(f"the number {text} is too large")
    return number


def refuse_digits(text: str) -> None:
    """Raises `InputError` for a number of more than `MAX_DIGITS` characters."""
    if len(text) > limits.MAX_DIGITS:
        raise InputError(f"a number of {len(text)} characters; at most {limits.MAX_DIGITS} are read")


def _refuse_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object. Raises `InputError` for a key that it has twice: some readers take its first value, some the last."""
    data = dict(pairs)
    if len(data) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = next(key for key, count in counts.items() if count > 1)
        raise InputError(f"the key {twice[:60]!r} twice in one object")
    return data


def _refuse_constant(text: str) -> float:
    raise InputError(f"{text} is not a number")


def read_safetensors_header(file: Path) -> tuple[dict[str, Any], int, int]:
    """Reads the header of a safetensors file, https://github.com/huggingface/safetensors#format.

    Returns:
        The header, its length in bytes, and the size of the file.

    Raises:
        OSError: there is no such file, or it may not be read.
        InputError: not a regular file, cut off, or its header is not what it should be.
    """
    with open_regular(file) as stream, told_as_input_error():
        size = stream.seek(0, 2)
        stream.seek(0)
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise InputError(f"cut off inside its header ({size} bytes)")
        if length > limits.MAX_HEADER_BYTES:
            raise InputError(f"its header claims {length} bytes")
        content = stream.read(length)
    try:
        header = parse_json(content, most=VALUES_PER_TENSOR * limits.MAX_TENSORS)
    except InputError as error:
        raise InputError(f"its header is not JSON that can be read: {error}") from None
    if not isinstance(header, dict):
        raise InputError("its header is not an object")
    if len(header) > limits.MAX_TENSORS:
        raise InputError(f"its header describes {len(header)} tensors; at most {limits.MAX_TENSORS} are read")
    return header, length, size
