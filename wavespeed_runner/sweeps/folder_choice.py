"""Finds, makes and locks the folder in which a sweep continues or begins."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..errors import ConfigError, RunError
from ..process.folder_lock import LOCK, lock_folder
from ..storage.atomic import write_text
from .folder import SWEEP, WRITTEN, SweepFolder, read_json


@contextmanager
def open_sweep_folder(
    chosen: Path | None, default: Path, sweeps: Path, about: dict[str, Any], *, anew: bool
) -> Iterator[SweepFolder]:
    """Opens the folder in which a sweep continues or begins, and locks it: no other process gets it meanwhile.

    Args:
        chosen: the folder that the user chose; None: the newest one below `sweeps` that holds the same sweep and is
            not locked, else `default`, which is made.
        default: a new folder.
        sweeps: the folder of all sweeps.
        about: the content of `sweep.json`.
        anew: whether not to continue in one of `sweeps`.

    Raises:
        RunError: another process uses the chosen folder, or it cannot be written.
    """
    _remove_abandoned(sweeps)
    if chosen is not None:
        path, lock = chosen, _lock_chosen(chosen)
    else:
        free = _lock_first_free([] if anew else find_folders_of(sweeps, about["identity"]))
        path, lock = free or _make(default)
    try:
        write_text(path / SWEEP, json.dumps(about, indent=1) + "\n")
        for part in (part for name in WRITTEN for part in path.glob(f".{name}.*")):  # of a writer that was killed
            part.unlink(missing_ok=True)
        yield SweepFolder(path=path)
    finally:
        os.close(lock)


def find_folders_of(sweeps: Path, identity: str) -> Iterator[Path]:
    """The folders that hold a sweep, newest first."""
    for file in sorted(sweeps.glob(f"*/*/{SWEEP}"), reverse=True):
        if (read_json(file) or {}).get("identity") == identity:
            yield file.parent


def _lock_chosen(folder: Path) -> int:
    """Locks the folder that the user chose."""
    setting = f"hydra.sweep.dir={folder}"
    if folder.is_dir() and not (folder / SWEEP).exists():
        others = [file.name for file in folder.iterdir() if not file.name.startswith((LOCK, f".{SWEEP}."))]
        if others:
            raise ConfigError(
                f"{setting}: holds other files than a sweep's ({min(others)}); give a new or an empty folder"
            )
    lock = lock_folder(folder)
    if lock is None:
        raise RunError(f"{setting}: another process runs a sweep there; wait, or choose another folder")
    return lock


def _lock_first_free(folders: Iterable[Path]) -> tuple[Path, int] | None:
    """Locks the first folder that no other process uses and that we may write; the folder and its lock."""
    for folder in folders:
        with suppress(RunError):  # another user's, or an archive
            if (lock := lock_folder(folder)) is not None:
                return folder, lock
    return None


def _remove_abandoned(sweeps: Path) -> None:
    """Removes folders whose maker was killed before it wrote `sweep.json`."""
    for folder in sweeps.glob("*/*"):
        if (folder / SWEEP).exists():
            continue
        if not (folder / LOCK).exists():
            with suppress(OSError):  # of one that was killed even earlier; what holds anything stays
                folder.rmdir()
            continue
        free = _lock_first_free([folder])
        if free is None:
            continue
        _, lock = free
        if all(file.name.startswith((LOCK, f".{SWEEP}.")) for file in folder.iterdir()):
            shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(default: Path) -> tuple[Path, int]:
    """Makes and locks a folder of our own: two sweeps may begin in the same microsecond."""
    for folder in (default, default.with_name(f"{default.name}-{os.getpid()}")):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise RunError(f"{folder}: cannot be made: {error.strerror}; choose another with outputs=DIR") from error
        while (lock := lock_folder(folder)) is None:  # `_remove_abandoned` of another process holds it for a moment
            time.sleep(0.01)
        return folder, lock
    raise RunError(f"{default}: exists already; choose another with hydra.sweep.dir=DIR")
