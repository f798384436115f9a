"""Writes files atomically: a reader finds the old content or the new, never a part. Every file is written this way.

A temporary file in the same folder is flushed to the disk and then replaces the old one. A writer that is killed leaves
`.NAME.RANDOM.tmp` behind (NAME is the file's, cut if it is long); whatever manages the folder removes it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from ..errors import RunError

NAME_LIMIT = 40
"""So many characters of the file's name are in the temporary one's; at 4 bytes each, still within every limit."""


def write_whole(path: str | Path, *parts: bytes) -> None:
    """Writes a file that consists of these parts; makes its folder, replaces an existing file.

    Its permissions are those of any new file, by the umask.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, because os.replace is atomic only within one file system. Not with `tempfile`: others could
    # not read its files in a shared folder.
    temporary = path.with_name(f".{path.name[:NAME_LIMIT]}.{secrets.token_hex(8)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.writelines(parts)
            file.flush()
            # Otherwise a machine that loses power may have the new name without the content.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C
        with suppress(OSError):
            temporary.unlink()
        raise


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
