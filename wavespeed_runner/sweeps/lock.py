"""Locks on folders, held by open files: whatever ends a process releases what it held."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from pathlib import Path

from ..errors import RunError

LOCK = ".lock"
"""The file in a folder."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Of file systems that have none."""

log = logging.getLogger("wavespeed_runner")


def locked(folder: Path) -> int | None:
    """The open lock file of a folder; None where another process holds it. It is released when that process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from error
    try:
        _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    if not _is_same(file, folder / LOCK):  # taken away as a dead one's, before we had it
        os.close(file)
        return locked(folder)
    return file


def _is_same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False


def wait_for(file: int, what: str) -> None:
    """Waits until no other process holds the lock of this open file, and takes it; says so where that takes time."""
    try:
        _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        log.warning("%s: another process is at it, perhaps of a sweep that was killed; waiting until it ends", what)
        _flock(file, fcntl.LOCK_EX)


def _flock(file: int, how: int) -> None:
    try:
        fcntl.flock(file, how)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
