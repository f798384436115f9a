"""The user's secret by which a folder of compiled kernels is known as the user's own: kernels are code.

A folder that somebody sent may have `outputs` in it. What is read there has a name that nobody else can compute.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from contextlib import suppress
from hashlib import sha256
from hmac import new
from pathlib import Path

NAME = "compile_key"
LENGTH = 64
"""Hexadecimal digits of the secret."""


def mark(parts: Iterable[str]) -> str:
    """A name for these parts that only this user can compute.

    Raises:
        OSError: the secret can neither be read nor written.
    """
    return new(_read_secret().encode(), "\0".join(parts).encode("utf-8", "surrogateescape"), sha256).hexdigest()[:24]


def _read_secret() -> str:
    folder = find_user_cache()
    file = folder / NAME
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _create(file)
    secret = file.read_text(encoding="ascii", errors="replace")
    if len(secret) != LENGTH or not secret.isalnum():
        raise OSError(f"{file} is damaged; delete it")
    return secret


def find_user_cache() -> Path:
    """The user's folder for caches. A relative one would lie where the command runs.

    Raises:
        OSError: the user has none.
    """
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if os.path.isabs(named) else Path(os.path.expanduser("~")) / ".cache"
    if not base.is_absolute():
        raise OSError("this user has no home folder")
    return base / "wavespeed_runner"


def _create(file: Path) -> None:
    """Writes a new secret that the user alone may read; of several processes at once, the first one's stays."""
    own = file.with_name(f"{NAME}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_hex(LENGTH // 2))
        with suppress(FileExistsError):
            os.link(own, file)
    finally:
        own.unlink()
