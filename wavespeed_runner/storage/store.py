"""Content-addressed store of stage outputs: one file for each entry, safe between processes and on a shared folder.

Layout: `ROOT/<first two characters of the key>/<key>.entry`; one line of JSON (format, key, stage, bytes, sha256,
created), then the payload. The sha256 covers the other header fields and the payload, so that any changed byte shows.
An entry appears whole or not at all. An entry damaged later counts as absent, so the caller computes it again.

`python -m wavespeed_runner store --help`: looking into a store and pruning it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..errors import RunError
from ..inputs.files import InputError, open_regular
from .atomic import write_whole

FORMAT = 1
DAMAGED = "(damaged)"
"""Stands in for the stage's name if an entry's header cannot be trusted."""
STALE_S = 3600.0
"""A temporary file that has not been written to for so many seconds belongs to a dead writer."""
HEADER_LIMIT = 65536
"""Bytes. A first line longer than this is not a header."""

log = logging.getLogger("wavespeed_runner")


class StoredEntry(NamedTuple):
    """One entry on the disk. `bytes` is the size of its file, `last_used` is in seconds since the epoch."""

    key: str
    stage: str
    bytes: int
    last_used: float


class Damage(Exception):
    """An entry is not what was written; the message says how it differs."""


class Store:
    """Stores payloads under keys, in a folder that several processes may use at once."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self.damaged: list[str] = []
        """Keys of the entries that this object found damaged, in that order."""

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
        return self.path(key).is_file()

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

    def write(self, key: str, payload: bytes, *, stage: str) -> None:
        """Adds or replaces an entry.

        Raises:
            RunError: the entry cannot be written (disk full, folder not writable). Nothing is left behind.
        """
        path = self.path(key)
        header = _header(key=key, stage=stage, payload=payload, created=round(time.time(), 3))
        try:
            write_whole(path, header, payload)
        except OSError as error:
            raise RunError(_cannot_write(self.root, path, error)) from error

    def entries(self) -> Iterator[StoredEntry]:
        """Lists every entry, ordered by key. Checks headers and sizes, does not read payloads."""
        for path in self._files():
            try:
                with open_regular(path) as file:
                    status = os.fstat(file.fileno())
                    stage = _stage(file, path.stem, status.st_size)
            except FileNotFoundError:  # pruned by another process
                continue
            except OSError as error:
                raise RunError(f"{path}: cannot be read: {error.strerror}; remove it") from error
            except InputError as error:
                raise RunError(f"{path}: cannot be read: {error}; remove it") from error
            yield StoredEntry(path.stem, stage, status.st_size, status.st_mtime)

    def size(self) -> tuple[int, int]:
        """Counts the entries, and the bytes of their files."""
        sizes = [status.st_size for _, status in self._status(self._files())]
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
            _remove(path, status.st_size)
            for path, status in self._status(self.root.glob("??/.*.tmp"))
            if now - status.st_mtime > STALE_S
        )
        entries = sorted(self._status(self._files()), key=lambda item: (item[1].st_mtime_ns, item[0].name))
        left, removed = sum(status.st_size for _, status in entries), 0
        for path, status in entries:
            too_old = older_than_s is not None and now - status.st_mtime > older_than_s
            too_much = max_bytes is not None and left > max_bytes
            if not (too_old or too_much):
                break
            gone = _remove(path, status.st_size)
            left -= status.st_size
            freed += gone
            removed += gone > 0
        return removed, freed

    def _checked(self, key: str) -> bytes | None:
        """Reads and checks a payload; removes and remembers a damaged entry."""
        path = self.path(key)
        try:
            with open_regular(path) as file:
                inode = os.fstat(file.fileno()).st_ino
                return _payload(file, key)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            log.warning("store: %s cannot be read (%s); computing it again", path, error.strerror)
        except InputError as error:  # a pipe or a device, which nobody waits for, or a folder
            log.warning("store: %s cannot be read (%s); computing it again", path, error)
        except Damage as damage:
            log.warning("store: %s is damaged (%s); removed, to be computed again", path, damage)
            with suppress(OSError):
                if path.stat().st_ino == inode:  # otherwise another process has just written a good one
                    path.unlink()
        self.damaged.append(key)
        return None

    def _files(self) -> Iterator[Path]:
        """Paths of all entries, ordered by key; other files are ignored. RunError: it may not be looked into."""
        for shard in _list_folder(self.root):
            for path in _list_folder(shard) if re.fullmatch(r"[0-9a-f]{2}", shard.name) else ():
                with suppress(ValueError):
                    if path.suffix == ".entry" and self.path(path.stem) == path:
                        yield path

    @staticmethod
    def _status(paths: Iterator[Path]) -> Iterator[tuple[Path, os.stat_result]]:
        """Each path with its status, except those that another process has just removed."""
        for path in paths:
            with suppress(FileNotFoundError):
                yield path, path.stat()


def _list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, sorted. Not by `glob`, which takes a folder that may not be read for an empty one."""
    try:
        with os.scandir(folder) as entries:
            return [folder / name for name in sorted(entry.name for entry in entries)]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RunError(f"{folder}: cannot be read: {error.strerror}; correct its permissions") from error


def _header(*, key: str, stage: str, payload: bytes, created: float) -> bytes:
    """The first line of an entry, with its newline."""
    fields: dict[str, Any] = {"format": FORMAT, "key": key, "stage": stage, "bytes": len(payload)}
    digest = hashlib.sha256(json.dumps({**fields, "created": created}).encode() + b"\n")
    digest.update(payload)
    return json.dumps({**fields, "sha256": digest.hexdigest(), "created": created}).encode() + b"\n"


def _fields(line: bytes, key: str) -> dict[str, Any]:
    """Reads the header's fields and checks what can be checked without the payload."""
    try:
        fields = json.loads(line)
        created, stage = fields["created"], fields["stage"]
        valid = line.endswith(b"\n") and fields["format"] == FORMAT and fields["key"] == key
        valid = valid and type(created) is float and type(stage) is str and type(fields["bytes"]) is int
    except (ValueError, TypeError, KeyError, RecursionError):
        valid = False
    if not valid:
        raise Damage("header is not readable")
    return dict(fields)


def _payload(file: BinaryIO, key: str) -> bytes:
    """Reads an open entry. Raises `Damage` if a single byte differs from what was written."""
    line = file.readline(HEADER_LIMIT)
    fields = _fields(line, key)
    payload = file.read()
    if len(payload) != fields["bytes"]:
        raise Damage(f"{len(payload)} bytes instead of {fields['bytes']}")
    # Building the header again also finds a changed byte that means the same in JSON.
    if line != _header(key=key, stage=fields["stage"], payload=payload, created=fields["created"]):
        raise Damage("checksum differs")
    return payload


def _stage(file: BinaryIO, key: str, size: int) -> str:
    """The stage that an open entry names; `DAMAGED` if header or file size is wrong."""
    line = file.readline(HEADER_LIMIT)
    try:
        fields = _fields(line, key)
    except Damage:
        return DAMAGED
    return fields["stage"] if len(line) + fields["bytes"] == size else DAMAGED


def _remove(path: Path, size: int) -> int:
    """Removes a file; returns the bytes freed, 0 if another process was faster."""
    try:
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise RunError(f"{path}: cannot be removed: {error.strerror}; correct its permissions") from error
    return size


def _cannot_write(root: Path, path: Path, error: OSError) -> str:
    way_out = f"make {root} a folder that can be written to"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        way_out = f"free some space (`python -m wavespeed_runner store {root} --prune-to 1GB` removes the oldest)"
    return f"store: cannot write {path}: {error.strerror}; {way_out}, or choose another place with `outputs=DIR`"
