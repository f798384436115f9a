"""Locks on folders, through an open file: the system frees a lock when its process ends, however it ends."""

from __future__ import annotations

import errno
import logging
import os
import time
from contextlib import suppress
from pathlib import Path

from filelock import lock_descriptor

from ..errors import RunError

LOCK = ".lock"
"""Name of the lock file in a folder."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems that have no locks. There everybody gets the lock."""
PROBES, PROBE_S = 3, 0.01
"""How often, and how many seconds apart, a reader tries a lock: another reader may hold it for an instant."""

log = logging.getLogger("wavespeed_runner")


def lock_folder(folder: Path) -> int | None:
    """Takes the lock of a folder, which is made where there is none.

    Returns:
        The open lock file, whose closing frees the lock; None where another process holds it.

    Raises:
        RunError: the folder cannot be written.
    """
    try:
        file = _open_lock(folder)
    except OSError as error:
        raise RunError(f"{folder}: cannot be written: {error.strerror}; choose another folder") from error
    if not _try_lock(file):
        os.close(file)
        return None
    if not _is_same_file(file, folder / LOCK):  # whoever removes abandoned folders has removed this one meanwhile
        os.close(file)
        return lock_folder(folder)
    return file


def _open_lock(folder: Path) -> int:
    for _ in range(PROBES - 1):
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # whoever removes abandoned folders found it empty
            return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    folder.mkdir(parents=True, exist_ok=True)
    return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)


def wait_for_lock(file: int, what: str) -> None:
    """Takes the lock of an open file; waits until no other process holds it.

    Args:
        file: descriptor of the open lock file.
        what: names the work in the warning that is logged before a wait.
    """
    if not _try_lock(file):
        log.warning("%s: another process is running it, perhaps of a killed sweep; waiting until it ends", what)
        lock_descriptor(file)


def is_locked(folder: Path) -> bool | None:
    """Whether some process holds the lock of a folder; None where that cannot be told, as without a lock file."""
    try:
        file = _open_to_probe(folder / LOCK)
    except OSError:
        return None
    try:
        for probe in range(PROBES):
            if probe:
                time.sleep(PROBE_S)
            if _is_free(file):
                return False
        return True
    except OSError:
        return None
    finally:
        os.close(file)


def _is_free(file: int) -> bool:
    """Whether no other process holds the lock of an open file, which then may be locked until it is closed."""
    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
    # A network file system locks exclusively only what is open for writing. A shared lock tells as much; filelock has
    # none. Imported here because Windows, where this does not occur, has no such module.
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _open_to_probe(path: Path) -> int:
    """Opens a lock file, for writing where that is allowed."""
    try:
        return os.open(path, os.O_RDWR)
    except OSError:  # another user's file, or a file system that is mounted read-only
        return os.open(path, os.O_RDONLY)


def _try_lock(file: int) -> bool:
    try:
        return lock_descriptor(file, blocking=False)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return True


def _is_same_file(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except OSError:
        return False
