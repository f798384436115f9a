"""The file of one entry of the store: one line of JSON, then the payload.

The line holds format, key, stage, bytes, sha256 and created. The sha256 covers its other fields and the payload, so
that any changed byte shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, BinaryIO

FORMAT = 1
DAMAGED = "(damaged)"
"""Stands in for the stage's name if an entry's header cannot be trusted."""
HEADER_LIMIT = 65536
"""Bytes. A first line longer than this is not a header."""


class Damage(Exception):
    """An entry is not what was written; the message says how it differs."""


def build_header(*, key: str, stage: str, payload: Sequence[bytes | memoryview], created: float) -> bytes:
    """The first line of an entry, with its newline."""
    fields: dict[str, Any] = {"format": FORMAT, "key": key, "stage": stage, "bytes": sum(map(len, payload))}
    digest = hashlib.sha256(json.dumps({**fields, "created": created}).encode() + b"\n")
    for part in payload:
        digest.update(part)
    return json.dumps({**fields, "sha256": digest.hexdigest(), "created": created}).encode() + b"\n"


def _fields(line: bytes, key: str) -> dict[str, Any]:
    """Reads the header's fields and checks what can be checked without the payload."""
    try:
        fields = json.loads(line)
        created, stage = fields["created"], fields["stage"]
        valid = line.endswith(b"\n") and fields["format"] == FORMAT and fields["key"] == key
        valid = valid and type(created) is float and type(stage) is str and type(fields["bytes"]) is int
    except (ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise Damage("header is not readable")
    return dict(fields)


def read_payload(file: BinaryIO, key: str) -> bytes:
    """Reads an open entry. Raises `Damage` if a single byte differs from what was written."""
    line = file.readline(HEADER_LIMIT)
    payload = file.read()
    _check_payload(line, payload, key)
    return payload


def find_payload(entry: memoryview, key: str) -> memoryview:
    """The payload among the bytes of an entry. Raises `Damage` as `read_payload` does."""
    end = bytes(entry[:HEADER_LIMIT]).find(b"\n") + 1
    _check_payload(bytes(entry[:end]), entry[end:], key)
    return entry[end:]


def _check_payload(line: bytes, payload: bytes | memoryview, key: str) -> None:
    fields = _fields(line, key)
    if len(payload) != fields["bytes"]:
        raise Damage(f"{len(payload)} bytes instead of {fields['bytes']}")
    # Building the header again also finds a changed byte that means the same in JSON.
    if line != build_header(key=key, stage=fields["stage"], payload=[payload], created=fields["created"]):
        raise Damage("checksum differs")


def read_stage(file: BinaryIO, key: str, size: int) -> str:
    """The stage that an open entry names; `DAMAGED` if header or file size is wrong."""
    line = file.readline(HEADER_LIMIT)
    try:
        fields = _fields(line, key)
    except Damage:
        return DAMAGED
    return fields["stage"] if len(line) + fields["bytes"] == size else DAMAGED
