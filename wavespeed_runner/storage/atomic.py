"""Writes files atomically: a reader finds the old content or the new, never a part. Every file is written this way.

A temporary file in the same folder is flushed to the disk and then replaces the old one. A writer that is killed leaves
`.NAME.RANDOM.tmp` behind (NAME is the file's, cut if it is long); the next one that writes the file removes it, and
whatever manages the folder removes the rest.
"""

from __future__ import annotations

import os
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from ..errors import RunError

NAME_LIMIT = 40
"""So many characters of the file's name are in the temporary one's; at 4 bytes each, still within every limit."""


LOCKING_S = 2.0
"""Seconds after which a living writer has certainly locked its temporary file."""


def write_whole(path: str | Path, *parts: bytes | memoryview) -> None:
    """Writes a file that consists of these parts; makes its folder, replaces an existing file.

    Its permissions are those of any new file, by the umask.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because os.replace is atomic only within one file system. Not with `tempfile`: others could
    # not read its files in a shared folder.
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name[:NAME_LIMIT]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            _try_lock(file)
            file.writelines(parts)
            file.flush()
            # Otherwise a machine that loses power may have the new name without the content.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C
        with suppress(OSError):
            temporary.unlink()
        raise


def _try_lock(file: BinaryIO) -> bool:
    """Locks an open file for this process; False if another process has, or where there are no locks."""
    try:
        import fcntl  # not on Windows

        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def _remove_leftovers(path: Path) -> None:
    """Removes temporary files of writers of this file that were killed: the system has released their locks."""
    start, now = f".{path.name[:NAME_LIMIT]}.", time.time()
    with suppress(OSError), os.scandir(path.parent) as entries:
        for entry in entries:
            if not (entry.name.startswith(start) and entry.name.endswith(".tmp")):
                continue
            # A younger one may be of a writer that has not come to locking it.
            with suppress(OSError), open(entry.path, "rb") as file:
                if now - entry.stat().st_mtime > LOCKING_S and _try_lock(file):
                    os.unlink(entry.path)


def write_text(path: Path, text: str, *, way_out: str = "choose another folder with outputs=DIR") -> None:
    """Writes a text file as UTF-8, like `write_whole`.

    Args:
        path: of the file.
        text: its content.
        way_out: what the error message suggests.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; {way_out}") from error
