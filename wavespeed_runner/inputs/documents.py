"""Reads JSON, YAML and safetensors headers within bounds: depth, number of nodes, digits, valid Unicode.

Python's own readers follow a hostile file into the C stack, into gigabytes of aliases, or into minutes of converting a
number. Everything that they would stumble over later is refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from . import limits
from .files import InputError, check_regular, read_file, read_text

NUMBER = re.compile(r"[-+]?[0-9.][0-9a-fA-FxXoO_:.eE+-]*")
"""Whatever YAML might read as a number."""
SURROGATE = re.compile(r"[\ud800-\udfff]")


def parse_json(content: bytes | str, *, constants: bool = False) -> Any:
    """Parses JSON.

    Args:
        content: UTF-8 text.
        constants: accept NaN and infinity, which are no JSON, but which diffusers writes.

    Raises:
        InputError: not JSON, nested too deep, a number with too many digits, NaN or infinity, or text that is not
            valid Unicode.
    """
    try:
        text = content if isinstance(content, str) else content.decode("utf-8")
        constant = float if constants else _refuse_constant
        data = json.loads(text, parse_int=_parse_int, parse_float=_parse_float, parse_constant=constant)
        _refuse_depth(text)
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


def read_json(file: Path, max_bytes: int = limits.MAX_JSON_BYTES, *, constants: bool = False) -> Any:
    """Reads a JSON file; `constants` as in `parse_json`.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: as `parse_json`, or not a regular file of an acceptable size.
    """
    return parse_json(read_file(file, max_bytes), constants=constants)


def _refuse_depth(text: str) -> None:
    """Raises `InputError` for more than `MAX_DEPTH` levels; `text` is valid JSON."""
    if text.count("[") + text.count("{") <= limits.MAX_DEPTH:
        return
    depth = 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        mark = match.group()
        if mark in "[{":
            depth += 1
            if depth > limits.MAX_DEPTH:
                raise InputError("nested too deep")
        elif mark in "]}":
            depth -= 1


def _parse_int(text: str) -> int:
    _refuse_digits(text)
    return int(text)


def _parse_float(text: str) -> float:
    _refuse_digits(text)
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise InputError(f"the number {text} is too large")
    return number


def _refuse_digits(text: str) -> None:
    if len(text) > limits.MAX_DIGITS:
        raise InputError(f"a number of {len(text)} characters; at most {limits.MAX_DIGITS} are read")


def _refuse_constant(text: str) -> float:
    raise InputError(f"{text} is not a number")


def parse_yaml(text: str) -> Any:
    """Parses YAML to plain data.

    Raises:
        InputError: as `check_yaml`.
        yaml.YAMLError: not YAML.
    """
    check_yaml(text)
    try:
        return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML's constructors raise whatever they stumble over: a date that does not exist
        raise InputError(f"a value cannot be read: {error}") from None


def check_yaml(text: str) -> None:
    """Refuses YAML that is not safe to build: for readers that build it themselves, such as Hydra.

    Raises:
        InputError: nested too deep, too large when its aliases are followed, a number with too many digits, or text
            that is not valid Unicode.
        yaml.YAMLError: not YAML.
    """
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = []
    nodes = 0
    for event in _iterate_events(text):
        if isinstance(event, yaml.AliasEvent):
            # An alias inside of what it stands for has no end.
            nodes += sizes.get(str(event.anchor), limits.MAX_NODES + 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            nodes += 1
            open_nodes.append((event.anchor, nodes))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before + 1
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            _check_scalar(event)
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if len(open_nodes) > limits.MAX_DEPTH:
            raise InputError("nested too deep")
        if nodes > limits.MAX_NODES:
            raise InputError(f"more than {limits.MAX_NODES} values, with its aliases followed")


def _iterate_events(text: str) -> Iterator[Any]:
    try:
        # By events, because building nodes follows the nesting into the C stack.
        yield from yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except UnicodeError:
        raise InputError("not valid Unicode") from None


def _check_scalar(event: Any) -> None:
    value: str = event.value
    if not value.isascii() and SURROGATE.search(value):
        raise InputError("not valid Unicode")
    if event.implicit[0] and len(value) > limits.MAX_DIGITS and NUMBER.fullmatch(value):
        _refuse_digits(value)


def read_yaml(file: Path, max_bytes: int = limits.MAX_TEXT_BYTES) -> Any:
    """Reads a YAML file to plain data.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: as `parse_yaml`, or not a regular UTF-8 file of an acceptable size.
        yaml.YAMLError: not YAML.
    """
    try:
        return parse_yaml(read_text(file, max_bytes))
    except yaml.MarkedYAMLError as error:
        if error.problem_mark is not None:
            mark = error.problem_mark
            error.problem_mark = yaml.Mark(str(file), 0, mark.line, mark.column, None, 0)
        raise


def read_safetensors_header(file: Path) -> tuple[dict[str, Any], int, int]:
    """Reads the header of a safetensors file, https://github.com/huggingface/safetensors#format.

    Returns:
        The header, its length in bytes, and the size of the file.

    Raises:
        OSError: there is no such file, or it may not be read.
        InputError: not a regular file, cut off, or its header is not what it should be.
    """
    check_regular(file)
    with file.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(0)
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > size - 8:
            raise InputError(f"cut off inside its header ({size} bytes)")
        if length > limits.MAX_HEADER_BYTES:
            raise InputError(f"its header claims {length} bytes")
        content = stream.read(length)
    try:
        header = parse_json(content)
    except InputError as error:
        raise InputError(f"its header is not JSON that can be read: {error}") from None
    if not isinstance(header, dict):
        raise InputError("its header is not an object")
    return header, length, size


def read_yaml_as_text(file: Path) -> Any:
    """As `read_yaml`, but every value stays the text that it is in the file: 4:00:00 is no number of seconds."""
    text = read_text(file)
    check_yaml(text)
    return yaml.load(text, Loader=yaml.BaseLoader)
