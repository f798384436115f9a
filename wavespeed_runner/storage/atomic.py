"""Writes files atomically: a reader finds the old content or the new, never a part. Every file is written this way.

A temporary file in the same folder is flushed to the disk and then replaces the old one. A writer that is killed leaves
`.NAME.SYSTEM.PROCESS.RANDOM.tmp` behind (NAME is the file's, cut if it is long; SYSTEM stands for the running system,
PROCESS is the writer's id there). The next process that writes to the folder removes it: at once if the writer ran on
the same system and is gone, after an hour if it ran on another one, such as a node of a cluster.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import stat
import time
from contextlib import suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from ..errors import RunError

NAME_LIMIT = 40
"""So many characters of the file's name are in the temporary one's; at 4 bytes each, still within every limit."""
TEMPORARY = re.compile(r"\..+\.([0-9a-f]{8})\.([0-9]{1,10})\.[0-9a-f]{16}\.tmp", re.DOTALL)
"""System and process of a temporary file. No other program's files look like this."""
OLD_S = 3600.0
"""Seconds after which no living writer is still at one file."""

_swept: set[str] = set()
"""Folders in which this process has looked for leftovers: once is enough, and in a large folder it takes its time."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_swept.clear)


def write_whole(path: str | Path, *parts: bytes | memoryview) -> None:
    """Writes a file that consists of these parts; makes its folder, replaces an existing file.

    Its permissions are those of any new file, by the umask.

    Raises:
        OSError: it cannot be written; an existing file is unchanged.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    # In the same folder, because os.replace is atomic only within one file system. Not with `tempfile`: others could
    # not read its files in a shared folder.
    writer = f"{_identify_system()}.{os.getpid()}.{secrets.token_hex(8)}"
    temporary = path.with_name(f".{path.name[:NAME_LIMIT]}.{writer}.tmp")
    try:
        with temporary.open("xb") as file:
            file.writelines(parts)
            file.flush()
            # Otherwise a machine that loses power may have the new name without the content.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also Ctrl-C
        with suppress(OSError):
            temporary.unlink()
        raise


@lru_cache(maxsize=1)
def _identify_system() -> str:
    """Tells systems apart that share a folder: in each, the numbers of processes mean others."""
    parts = [platform.node()]
    for name in ("/proc/self/ns/pid", "/proc/self/ns/uts"):  # containers on one machine may have one name
        with suppress(OSError):
            parts.append(os.readlink(name))
    return sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def _remove_leftovers(folder: Path) -> None:
    """Removes temporary files of writers that were killed."""
    place = os.path.abspath(folder)
    if place in _swept:
        return
    _swept.add(place)
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if match := TEMPORARY.fullmatch(entry.name):
                # On Windows a file that a living writer has open cannot be removed.
                with suppress(OSError):
                    if _is_left(entry.stat(follow_symlinks=False), match[1], int(match[2])):
                        os.unlink(entry.path)


def _is_left(status: os.stat_result, system: str, process: int) -> bool:
    """Whether nobody is writing a temporary file any more. Only a regular file is one: ours are."""
    if not stat.S_ISREG(status.st_mode):
        return False
    if time.time() - status.st_mtime > OLD_S:
        return True
    return system == _identify_system() and not _is_running(process)


def _is_running(process: int) -> bool:
    """Whether there is a process of this number here; True where that cannot be told."""
    if os.name != "posix":  # on Windows os.kill would end it
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, for example
        return True
    return True


OTHER_FOLDER = "choose another folder with outputs=DIR"


def write_bytes(path: str | Path, *parts: bytes, way_out: str = OTHER_FOLDER) -> None:
    """As `write_whole`, for what a user waits for.

    Args:
        path: of the file.
        parts: its content.
        way_out: what the error message suggests.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_whole(path, *parts)
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror or error}; {way_out}") from error


def write_text(path: Path, text: str, *, way_out: str = OTHER_FOLDER) -> None:
    """Writes a text file as UTF-8, like `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), way_out=way_out)
