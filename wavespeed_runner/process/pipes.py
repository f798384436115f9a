"""What stands between a command and its terminal: closed pipes end no command, and files' control characters stay out.

A command finishes when nobody reads its output any more, as in `wavespeed-runner ... | head`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

ASCII_CONTROLS = (*range(9), *range(11, 32), *range(127, 160))
DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
LINE_ENDS = (0x2028, 0x2029)
CONTROLS = dict.fromkeys((*ASCII_CONTROLS, *DIRECTIONS, *LINE_ENDS), "?")
"""Characters that move a terminal's cursor, rename its window, turn the direction of writing round or end a line ->
what is shown. All but tabulator and newline."""


class _TolerantStream:
    """Wraps a text stream: writes to a closed pipe are dropped, everything else goes to the stream.

    Args:
        stream: to be wrapped.
        clean: replace control characters: what is printed quotes names and texts of files. Not for a progress bar,
            which moves the cursor.
    """

    def __init__(self, stream: TextIO, *, clean: bool) -> None:
        self._stream, self._clean = stream, clean

    @property
    def styled(self) -> _TolerantStream:
        """The same stream for a writer that makes colours, and cleans the texts that it quotes by itself."""
        return _TolerantStream(self._stream, clean=False)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text.translate(CONTROLS) if self._clean else text)
        except BrokenPipeError:
            self._discard_output()
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._discard_output()
            if not isinstance(error, BrokenPipeError):  # such as a full disk, which is an error of the command
                raise

    def _discard_output(self) -> None:
        """Points the stream at the null device. The buffered rest, which is flushed at exit, goes there too."""
        null_device = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null_device, self._stream.fileno())
        os.close(null_device)


def get_styled_output() -> Any:
    """Stdout for rich, whose colours are control characters; the texts that it prints must be clean."""
    return getattr(sys.stdout, "styled", sys.stdout)


@contextmanager
def tolerate_closed_output() -> Iterator[None]:
    """Lets a command run to its own end and exit status after its reader has closed the pipe.

    Hours of work are not lost because `head` has seen enough, and a failed job does not look like a good one.
    """
    before = sys.stdout, sys.stderr
    # A stream that was closed before Python began (`>&-`) is None; `print` then does nothing.
    streams: list[Any] = [stream and _TolerantStream(stream, clean=stream is before[0]) for stream in before]
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            # Flush here: if a flush fails while the interpreter exits, the exit status becomes 120.
            with suppress(OSError):
                if stream:
                    stream.flush()
