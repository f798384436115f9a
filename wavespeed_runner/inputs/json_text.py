"""Decodes the text of JSON within a bound on memory.

Python keeps a text with as many bytes for each character as its widest one needs: an emoji among 250 million ASCII
characters makes a gigabyte of them, once as the text of the file and once more as a value. So what a file would take
is computed from its bytes, before anything is decoded.
"""

from __future__ import annotations

import re

from . import limits
from .files import InputError

CONTINUED = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that begin no character."""
FOUR, TWO = re.compile(rb"[\xf0-\xff]"), re.compile(rb"[\xc4-\xff]")
"""First bytes of characters for which a text needs four bytes each, or at least two."""
ESCAPE = re.compile(rb"\\u(?!00)")
"""In ASCII this makes a text wide, which is as short as any other in the file."""
REST = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
"""The rest of a text from any place in it that is not inside of an escape."""


def decode_json(content: bytes) -> str:
    """The text of JSON in UTF-8.

    Raises:
        UnicodeDecodeError: it is no UTF-8.
        InputError: decoded, it or the texts in it would take too much memory.
    """
    if 4 * len(content) > limits.MAX_WIDE_BYTES:
        width = 1 if content.isascii() else 4 if FOUR.search(content) else 2 if TWO.search(content) else 1
        if width > 1:
            _refuse_wide(width * len(content.translate(None, CONTINUED)))
        _refuse_wide(4 * _count_escaped(content))
    return content.decode("utf-8")


def _count_escaped(content: bytes) -> int:
    """The bytes of all texts with an escape for a wide character; no more of them than is allowed."""
    count = end = 0
    while found := ESCAPE.search(content, end):
        start = content.rfind(b'"', end, found.start())
        while start > end and _is_escaped(content, start):
            start = content.rfind(b'"', end, start)
        rest = REST.match(content, found.start())
        assert rest
        count += rest.end() - max(start, end)
        end = rest.end() + 1
        if 4 * count > limits.MAX_WIDE_BYTES:
            break
    return count


def _is_escaped(content: bytes, place: int) -> bool:
    """Whether an odd number of backslashes stands before it."""
    begin = place
    while begin > 0 and content[begin - 1] == ord("\\"):
        begin -= 1
    return (place - begin) % 2 == 1


def _refuse_wide(count: int) -> None:
    if count > limits.MAX_WIDE_BYTES:
        raise InputError(f"its text would take more than {limits.MAX_WIDE_BYTES // limits.MIB} MiB of memory")
