"""Tells a place that cannot be looked at as a wrong configuration: no permission, too long, links in a circle."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import ConfigError

QUOTED = 120
"""Characters of a key and its value in a message about a name that is too long."""


@contextmanager
def refuse_unreadable(given: dict[str, Any] | None = None) -> Iterator[None]:
    """Tells a file or folder that may not be looked at as a wrong configuration; for planning, which writes nothing.

    Args:
        given: the configuration, plain data, of which some key names the place; None: who typed it is told elsewhere.

    Raises:
        ConfigError: names the place, and the key where its name is none that could be opened.
    """
    try:
        yield
    except PermissionError as error:
        raise ConfigError(f"{error.filename}: {error.strerror}; it has to be readable to be planned with") from None
    except OSError as error:
        if given is not None and (told := explain_impossible(error, _list_texts(given))):
            raise ConfigError(told) from None
        raise


def explain_impossible(error: OSError, given: Iterable[tuple[str, str]]) -> str:
    """What is said of a path that no file can have: a name that is too long, links in a circle. Empty for other errors.

    Args:
        error: of the system.
        given: keys, and what they were given; a key is empty where a value stands alone.
    """
    if error.errno not in (errno.ENAMETOOLONG, errno.ELOOP):
        return ""
    place = os.fsdecode(error.filename or "")
    longest = Path(max(Path(place).parts, key=len, default="")).stem  # a suffix may have been added
    named = [(key, text) for key, text in given if longest and longest in text]
    key, text = max(named, key=lambda each: len(each[1]), default=("", place))
    where = f"{key}={text}" if key else text
    return f"{where if len(where) <= QUOTED else f'{where[:QUOTED]}...'}: {error.strerror}; give another path"


def _list_texts(data: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Keys and values of all texts in plain data."""
    parts = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for name, value in parts:
        place = key if isinstance(data, list) else f"{key}.{name}" if key else str(name)
        if isinstance(value, str):
            yield place, value
        else:
            yield from _list_texts(value, place)
