"""Looks into the folders of a store, and removes files there. A folder that is a link leads out of it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ..errors import RunError

MOST_NAME_BYTES = 255
"""Of one name in a path, on the file systems of Linux, macOS and Windows."""


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, sorted. Not by `glob`, which takes a folder that may not be read for an empty one."""
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(entry.name for entry in entries)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RunError(f"{folder}: cannot be read: {error.strerror}; correct its permissions") from error


def explain_no_place(folder: Path) -> str:
    """Why a path is none that a folder can have: a name that is too long, links in a circle; empty if it is one."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass
    except OSError as error:
        return error.strerror or str(error)
    return ""


def explain_unwritable(folder: Path) -> str:
    """Why nothing could be written into a folder that may have to be made first; empty if it could."""
    if reason := explain_no_place(folder):
        return reason
    if any(len(os.fsencode(part)) > MOST_NAME_BYTES for part in folder.parts):
        return os.strerror(errno.ENAMETOOLONG)
    existing = next((path for path in (folder, *folder.parents) if os.path.exists(path)), Path())
    if not existing.is_dir():
        return f"{existing} is a file"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"no permission to write in {existing}"


def leads_out(folder: Path) -> bool:
    """Whether a folder inside a store is a link: what lies behind it is not the store's, and may be somebody's."""
    is_junction = getattr(os.path, "isjunction", None)  # Python 3.12: Windows has those too
    return folder.is_symlink() or (is_junction is not None and bool(is_junction(folder)))


def find_link(folder: Path) -> Path | None:
    """The first link to a folder in a tree that is a command's own, the top included; None without any."""
    if leads_out(folder):
        return folder
    for place, folders, _ in os.walk(folder):  # which follows none
        if link := next((path for name in sorted(folders) if leads_out(path := Path(place, name))), None):
            return link
    return None


def find_status(paths: Iterator[Path]) -> Iterator[tuple[Path, os.stat_result]]:
    """Each path with its own status, not that behind a link, except those that another process has just removed."""
    for path in paths:
        with suppress(FileNotFoundError):
            yield path, path.lstat()


def remove(path: Path, size: int) -> int:
    """Removes a file; returns the bytes freed, 0 if another process was faster."""
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise RunError(f"{path}: cannot be removed: {error.strerror}; correct its permissions") from error
    return size
