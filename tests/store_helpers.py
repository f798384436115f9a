"""Keys, payloads and listings for the tests of the store; no pytest, so that child processes start fast."""

from __future__ import annotations

import hashlib
from pathlib import Path


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def payload_of(number: int, size: int = 300_000) -> bytes:
    return (hashlib.sha256(b"payload %d" % number).digest() * (size // 32 + 1))[:size]


def files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]
