"""Writes files atomically: whoever reads one finds the old content or the new, never a part. Everything is written so.

A temporary file in the same folder, flushed to the disk, takes the place of the old one. A writer that is killed leaves
`.NAME.RANDOM.tmp`, in which NAME is the file's, cut where it is long; whoever owns the folder takes that away.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import RunError

NAME_LIMIT = 40
"""Characters of the file's name in the temporary one's: at 4 bytes each it is still within every system's limit."""


def write_whole(path: str | Path, *parts: bytes) -> None:
    """Writes a file of these parts, one after the other; makes its folder. An existing file is replaced.

    Its permissions are those that the umask gives to any new file.

    Raises:
        OSError: it cannot be written. What was there before is still there.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, for os.replace is atomic only within one file system. Not by `tempfile`: nobody else could
    # read its files on a shared folder.
    temporary = path.with_name(f".{path.name[:NAME_LIMIT]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            # Else a machine that loses power may have the new name without the content.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C
        with suppress(OSError):
            temporary.unlink()
        raise


def write_text(path: Path, text: str, *, way_out: str = "choose another folder with outputs=DIR") -> None:
    """The same for text, as UTF-8.

    Args:
        way_out: what to do where it cannot be written.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_whole(path, text.encode("utf-8"))
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; {way_out}") from error
