"""Decides whether a path may be read, and reads it: regular files only, up to a size, and nothing of a stranger's.

Who names a path decides. The command line may name any file. A config file, a record or an image may name a file that
lies in the folder where the command runs, in the folders that the command line gave, or in an installed package; the
place that counts is the one behind all symbolic links.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ..errors import ConfigError
from . import limits

PACKAGE = "pkg://"
HUB_ID = re.compile(r"[A-Za-z0-9_][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
"""`owner/name` on the Hugging Face Hub."""


class Kind(NamedTuple):
    """A kind of file that a config can name."""

    what: str
    """For messages: `a config file may name {what}`."""
    suffixes: tuple[str, ...]
    """Lower case. Private files of other kinds cannot end up in results."""
    max_bytes: int


PROMPTS = Kind("a relative .txt file", (".txt",), limits.MAX_TEXT_BYTES)
IMAGE = Kind("a relative .png, .jpg, .jpeg, .webp file", (".png", ".jpg", ".jpeg", ".webp"), limits.MAX_IMAGE_BYTES)
CALIBRATION = Kind("a relative .yaml file", (".yaml", ".yml"), limits.MAX_CALIBRATION_BYTES)
WEIGHTS = Kind("a relative .safetensors file", (".safetensors",), 2**63)
ADAPTER = Kind("a hub id, a relative .safetensors file", (".safetensors",), 2**63)


class InputError(ValueError):
    """A file cannot be read or is not what it should be; one line without the file's name."""


def resolve_path(path: str) -> Path:
    """Resolves a path from a config: `pkg://package/inside` lies in an installed package, `~` is the home folder.

    Raises:
        ConfigError: the package is not installed, the path leads out of it, or there is no such home folder.
    """
    if not path.startswith(PACKAGE):
        try:
            return Path(path).expanduser()
        except RuntimeError:  # ~name of nobody
            raise ConfigError(f"{path}: there is no such home folder; write the whole path") from None
    package, _, inside = path.removeprefix(PACKAGE).partition("/")
    home = _find_package(package)
    if home is None:
        raise ConfigError(f"{path}: package '{package}' is not installed")
    try:
        is_inside = not Path(inside).is_absolute() and is_within(home / inside, [home])
    except (OSError, ValueError):  # a zero byte, too long, or links in a circle
        raise ConfigError(f"{path}: not a path; give pkg://{package}/FILE") from None
    if not is_inside:
        raise ConfigError(f"{path}: it leads out of the package; give pkg://{package}/FILE")
    return home / inside


def _find_package(name: str) -> Path | None:
    """The folder of an installed package; None if there is none of this name."""
    try:
        spec = find_spec(name) if name.isidentifier() else None
    except (ImportError, ValueError):  # a module without a spec, such as __main__
        return None
    # Without an `__init__.py` any folder beside a module would be a "package".
    if spec is None or not spec.submodule_search_locations or spec.origin is None:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def check_named_by_config(key: str, path: str, kind: Kind, folders: Iterable[Path | str] = ()) -> str:
    """Refuses a path, named by a config file or a record, that might lead to a private file.

    Args:
        key: that holds it.
        path: as written.
        kind: what the key may name.
        folders: that the command line gave, besides the one where the command runs.

    Returns:
        The path to open: as written, or below the first of `folders` that has such a file where this one has none.

    Raises:
        ConfigError: says what is allowed, and that the command line may name any file.
    """
    if has_bad_form(path) or not path.lower().endswith(kind.suffixes):
        raise ConfigError(
            f"{key}={path}: a config file may name {kind.what}, or one in a package; give another on the command "
            f"line, {key}=FILE"
        )
    try:
        place = resolve_path(path)
        if path.startswith(PACKAGE):
            return path
        if not os.path.lexists(place):
            place = next((file for folder in folders if os.path.lexists(file := Path(folder, path))), place)
        is_inside = is_within(place, [Path.cwd(), *folders])
    except ConfigError as error:
        raise ConfigError(f"{key}={error}") from None
    except (OSError, ValueError):  # too long for a file system, or links in a circle
        raise ConfigError(f"{key}={path}: not a path; give a file, {key}=FILE") from None
    if not is_inside:
        raise ConfigError(
            f"{key}={path}: a link leads out of the folder, to {find_place(place)}; a config file may not follow "
            f"it; give it on the command line, {key}=FILE"
        )
    return path if place == Path(path) else str(place)


def has_bad_form(path: str) -> bool:
    """True unless a path is relative, or one in a package, on every system: no parent folder, no drive, no address."""
    form = path.removeprefix(PACKAGE)
    return (
        form.startswith(("/", "~"))
        or any(part in form for part in ("\\", "\0", "//", "${"))
        or re.match("[A-Za-z]:", form) is not None
        or ".." in form.split("/")
    )


def is_within(file: Path, folders: Iterable[Path | str]) -> bool:
    """True if the place behind all links lies in one of the folders. Raises as `find_place`."""
    place = find_place(file)
    return any(place.is_relative_to(find_place(folder)) for folder in folders)


def find_place(path: Path | str) -> Path:
    """The absolute path behind all links, also of what is not there. All of the package goes through it.

    Python's own `Path.resolve` raises a `RuntimeError` for links in a circle, or nothing, as its version has it.

    Raises:
        OSError: links in a circle.
        ValueError: a zero byte.
    """
    try:
        return Path(os.path.realpath(path, strict=True))
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
        return Path(os.path.realpath(path))


def read_file(file: Path, max_bytes: int) -> bytes:
    """Reads a regular file that is not too large; never waits for a pipe or a device.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: it is a folder, pipe, device, or too large.
    """
    with open_regular(file, max_bytes) as stream:
        content = stream.read(max_bytes + 1)
    if len(content) > max_bytes:  # it has grown
        raise InputError(_describe_size(len(content), max_bytes))
    return content


def read_head(file: Path, end: bytes, max_bytes: int) -> bytes:
    """Reads the beginning of a regular file of any size, up to the first `end`; all of a file that has none.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: it is a folder, pipe or device, or its beginning is too large.
    """
    with open_regular(file) as stream:
        head, found, _ = stream.read(max_bytes + 1).partition(end)
    if not found and len(head) > max_bytes:
        raise InputError(f"no {end.decode().strip()!r} in its first {max_bytes} bytes")
    return head


def open_regular(file: Path, max_bytes: int = 2**63) -> BinaryIO:
    """Opens a regular file that is not too large; raises as `read_file`, and never waits for a pipe or a device."""
    check_regular(file, max_bytes)
    # O_NONBLOCK, and the check once more: it may have become a pipe, and opening one would wait for ever.
    # O_BINARY: Windows would change line ends, and stop at byte 26.
    flags = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    stream = os.fdopen(os.open(file, os.O_RDONLY | sum(flags)), "rb")
    try:
        _refuse_irregular(os.fstat(stream.fileno()), max_bytes)
    except InputError:
        stream.close()
        raise
    return stream


@contextmanager
def told_as_input_error() -> Iterator[None]:
    """Within it a file that is open and cannot be read is an `InputError`: some of `/proc` look like any other."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}") from None


def check_regular(file: Path, max_bytes: int = 2**63) -> None:
    """As `read_file`, without reading it: for libraries that open files themselves.

    Raises:
        OSError: there is none.
        InputError: it is a folder, pipe, device, or too large.
    """
    _refuse_irregular(file.stat(), max_bytes)


def _refuse_irregular(status: os.stat_result, max_bytes: int) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise InputError("a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise InputError("not a regular file")
    if status.st_size > max_bytes:
        raise InputError(_describe_size(status.st_size, max_bytes))


def _describe_size(size: int, max_bytes: int) -> str:
    return f"{size} bytes, and at most {max_bytes} are read"


def read_text(file: Path, max_bytes: int = limits.MAX_TEXT_BYTES) -> str:
    """Reads a regular UTF-8 file, with or without a byte order mark.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: as `read_file`, or it is not UTF-8 text.
    """
    try:
        return read_file(file, max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("not UTF-8 text") from None
