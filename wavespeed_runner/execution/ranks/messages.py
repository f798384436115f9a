"""Messages between ranks: JSON with typed values, and the bytes of tensors behind it. Nothing is unpickled.

What a stage takes can be sent: numbers, texts, lists, dictionaries, enums, the dataclasses of options, and stored
values (`artifacts.Value`). A loaded model stays in its process; `Kept` names it to the others.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from importlib import import_module
from typing import Any

from ...artifacts import Value

PLAIN = (str, int, float, bool, type(None))
HEAD = struct.Struct("<Q")
"""Length of the JSON part, in bytes."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """Stands for a value that every rank keeps for itself under this key."""

    key: str


def encode(message: dict[str, Any]) -> bytes:
    """Encodes a message.

    Raises:
        TypeError: something in it cannot be sent.
    """
    blobs: list[bytes] = []
    body = {name: _encode(value, blobs) for name, value in message.items()}
    text = json.dumps({"body": body, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join((HEAD.pack(len(text)), text, *blobs))


def decode(raw: bytes, find: Callable[[str], Any]) -> dict[str, Any]:
    """Decodes a message of another rank.

    Args:
        raw: what `encode` returned.
        find: key -> the value that this rank keeps under it.
    """
    end = HEAD.size + HEAD.unpack_from(raw)[0]
    header = json.loads(raw[HEAD.size : end])
    blobs = []
    for size in header["sizes"]:
        blobs.append(raw[end : end + size])
        end += size
    return {name: _decode(value, blobs, find) for name, value in header["body"].items()}


def _encode(value: Any, blobs: list[bytes]) -> Any:
    if isinstance(value, Enum):
        return {"enum": _name(type(value)), "member": value.name}
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encode(item, blobs) for item in value]}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, blobs), _encode(item, blobs)] for key, item in value.items()]}
    if isinstance(value, Kept):
        return {"kept": value.key}
    if isinstance(value, Value):
        blobs.append(value.to_bytes())
        return {"value": _name(type(value)), "blob": len(blobs) - 1}
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: _encode(getattr(value, field.name), blobs) for field in fields(value) if field.init}
        return {"dataclass": _name(type(value)), "fields": given}
    raise TypeError(f"{type(value).__name__} cannot be sent to another rank")


def _decode(value: Any, blobs: list[bytes], find: Callable[[str], Any]) -> Any:
    if not isinstance(value, dict):
        return value
    if "enum" in value:
        return _find_type(value["enum"])[value["member"]]
    if "kept" in value:
        return find(value["kept"])
    if "value" in value:
        return _find_type(value["value"]).from_bytes(blobs[value["blob"]])
    if "dataclass" in value:
        given = {name: _decode(item, blobs, find) for name, item in value["fields"].items()}
        return _find_type(value["dataclass"])(**given)
    if "dict" in value:
        return {_decode(key, blobs, find): _decode(item, blobs, find) for key, item in value["dict"]}
    ((kind, items),) = value.items()
    return (list if kind == "list" else tuple)(_decode(item, blobs, find) for item in items)


def _name(type_: type) -> str:
    return f"{type_.__module__}:{type_.__qualname__}"


def _find_type(name: str) -> Any:
    """The class of that name. Only data can be sent: an enum, a dataclass or a stored value."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    if not (isinstance(found, type) and (is_dataclass(found) or issubclass(found, Enum | Value))):
        raise TypeError(f"{name} is not data")
    return found
