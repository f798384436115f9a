"""Content-addressed store of stage outputs: one file for each entry, safe between processes and on a shared folder.

Layout: `ROOT/<first two characters of the key>/<key>.entry`; `entry.py` says what is in a file. An entry appears whole
or not at all. An entry damaged later counts as absent, so the caller computes it again.

`python -m wavespeed_runner store --help`: looking into a store and pruning it.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeVar

from ..errors import RunError
from ..inputs.files import InputError, open_regular
from .atomic import write_whole
from .entry import Damage, build_header, find_payload, read_payload, read_stage
from .folders import find_status, leads_out, list_folder, remove

T = TypeVar("T")

STALE_S = 3600.0
"""A temporary file that has not been written to for so many seconds belongs to a dead writer."""

log = logging.getLogger("wavespeed_runner")


class StoredEntry(NamedTuple):
    """One entry on the disk. `bytes` is the size of its file, `last_used` is in seconds since the epoch."""

    key: str
    stage: str
    bytes: int
    last_used: float


class Store:
    """Stores payloads under keys, in a folder that several processes may use at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.damaged: list[str] = []
        """Keys of the entries that this object found damaged, in that order."""
        self._links: set[Path] = set()
        """Folders of the store that are links; each is told of once."""

    def path(self, key: str) -> Path:
        """The path of a key's entry.

        Raises:
            ValueError: the key is not a sha256 in lowercase hex.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", key):
            raise ValueError(f"a store key is a sha256 in lowercase hex, not {key!r}")
        return self.root / key[:2] / f"{key}.entry"

    def __contains__(self, key: str) -> bool:
        """True if there is an entry. It is not read, so `read` may still find it damaged."""
        path = self.path(key)
        return path.is_file() and not self._is_elsewhere(path.parent)

    def read(self, key: str) -> bytes | None:
        """Reads a payload; None if there is no entry, or a damaged one, which is removed."""
        payload = self._checked(key)
        if payload is not None:
            with suppress(OSError):  # pruned in the meantime, or a read-only store
                os.utime(self.path(key))
        return payload

    def verify(self) -> int:
        """Reads every entry, which does not count as use; removes damaged ones and returns their number."""
        before = len(self.damaged)
        for path in self._files():
            self._checked(path.stem)
        return len(self.damaged) - before

    def read_mapped(self, key: str, decode: Callable[[memoryview], T]) -> T | None:
        """What `decode` makes of a payload, which lies in the memory of its file; None where `read` gives None.

        For large entries: the payload is never in the process's own memory. `decode` must copy what it keeps.
        """
        path, inode = self.path(key), 0
        if self._is_elsewhere(path.parent):
            return None
        try:
            with open_regular(path) as file:
                inode = os.fstat(file.fileno()).st_ino
                # A private copy: torch takes only buffers that it may write to.
                whole = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))
                payload = find_payload(whole, key)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, Damage) as damage:  # ValueError: the file is empty
            self._discard(key, str(damage), inode)
            return None
        with suppress(OSError):  # pruned in the meantime, or a read-only store
            os.utime(path)
        return decode(payload)

    def write(self, key: str, *payload: bytes | memoryview, stage: str) -> None:
        """Adds or replaces an entry. payload: its parts, in order.

        Raises:
            RunError: the entry cannot be written (disk full, folder not writable). Nothing is left behind.
        """
        path = self.path(key)
        if leads_out(path.parent):
            raise RunError(f"store: {path.parent} is a link, which leads out of the store; remove it")
        header = build_header(key=key, stage=stage, payload=payload, created=round(time.time(), 3))
        try:
            write_whole(path, header, *payload)
        except OSError as error:
            raise RunError(_cannot_write(self.root, path, error)) from error

    def entries(self) -> Iterator[StoredEntry]:
        """Lists every entry, ordered by key. Checks headers and sizes, does not read payloads."""
        for path in self._files():
            try:
                with open_regular(path) as file:
                    status = os.fstat(file.fileno())
                    stage = read_stage(file, path.stem, status.st_size)
            except FileNotFoundError:  # pruned by another process
                continue
            except OSError as error:
                raise RunError(f"{path}: cannot be read: {error.strerror}; remove it") from error
            except InputError as error:
                raise RunError(f"{path}: cannot be read: {error}; remove it") from error
            yield StoredEntry(path.stem, stage, status.st_size, status.st_mtime)

    def size(self) -> tuple[int, int]:
        """Counts the entries, and the bytes of their files."""
        sizes = [status.st_size for _, status in find_status(self._files())]
        return len(sizes), sum(sizes)

    def prune(self, max_bytes: int | None = None, older_than_s: float | None = None) -> tuple[int, int]:
        """Removes entries not used for `older_than_s` seconds, then the least recently used until `max_bytes` are left.

        Also removes temporary files of dead writers. Safe beside readers and writers: they compute or write again.

        Returns:
            Number of entries removed, and bytes freed (temporary files included).

        Raises:
            RunError: something may not be removed.
        """
        now = time.time()
        freed = sum(
            remove(path, status.st_size)
            for path, status in find_status(self._files(r"\..*\.tmp"))
            if now - status.st_mtime > STALE_S
        )
        entries = sorted(find_status(self._files()), key=lambda item: (item[1].st_mtime_ns, item[0].name))
        left, removed = sum(status.st_size for _, status in entries), 0
        for path, status in entries:
            too_old = older_than_s is not None and now - status.st_mtime > older_than_s
            too_much = max_bytes is not None and left > max_bytes
            if not (too_old or too_much):
                break
            gone = remove(path, status.st_size)
            left -= status.st_size
            freed += gone
            removed += gone > 0
        return removed, freed

    def _checked(self, key: str) -> bytes | None:
        """Reads and checks a payload; removes and remembers a damaged entry."""
        path = self.path(key)
        if self._is_elsewhere(path.parent):
            return None
        try:
            with open_regular(path) as file:
                inode = os.fstat(file.fileno()).st_ino
                return read_payload(file, key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("store: %s cannot be read (%s); computing it again", path, error.strerror)
        except InputError as error:  # a pipe or a device, which nobody waits for, or a folder
            log.warning("store: %s cannot be read (%s); computing it again", path, error)
        except Damage as damage:
            self._discard(key, str(damage), inode)
            return None
        self.damaged.append(key)
        return None

    def refuse(self, key: str, why: str) -> None:
        """Removes an entry whose bytes are those that were written, and which is still not what it should be."""
        with suppress(OSError):
            self._discard(key, why, self.path(key).stat().st_ino)

    def _discard(self, key: str, damage: str, inode: int) -> None:
        """Removes and remembers a damaged entry, of which the file with this inode was read."""
        path = self.path(key)
        log.warning("store: %s is damaged (%s); removed, to be computed again", path, damage)
        with suppress(OSError):
            if path.stat().st_ino == inode:  # otherwise another process has just written a good one
                path.unlink()
        self.damaged.append(key)

    def _files(self, name: str = r"[0-9a-f]{64}\.entry") -> Iterator[Path]:
        """Paths of all entries, or of files of such a name, ordered; others are ignored. RunError: as `list_folder`."""
        for shard in list_folder(self.root):
            if re.fullmatch(r"[0-9a-f]{2}", shard.name) and not self._is_elsewhere(shard):
                for path in list_folder(shard):
                    is_here = path.suffix != ".entry" or path.name.startswith(shard.name)
                    if is_here and re.fullmatch(name, path.name):
                        yield path

    def _is_elsewhere(self, folder: Path) -> bool:
        """Whether a folder of the store is a link; then nothing of it is read, removed or counted, and that is said."""
        if not leads_out(folder):
            return False
        if folder not in self._links:
            log.warning("store: %s is a link, which leads out of the store; it is left alone", folder)
            self._links.add(folder)
        return True


def _cannot_write(root: Path, path: Path, error: OSError) -> str:
    way_out = f"make {root} a folder that can be written to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        way_out = f"free some space (`python -m wavespeed_runner store {root} --prune-to 1GB` removes the oldest)"
    return f"store: cannot write {path}: {error.strerror}; {way_out}, or choose another place with `outputs=DIR`"
