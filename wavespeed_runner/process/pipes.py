"""Lets a command finish when nobody reads its output any more, as in `wavespeed-runner ... | head`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class _TolerantStream:
    """Wraps a text stream: writes to a closed pipe are dropped, everything else goes to the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
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


@contextmanager
def tolerate_closed_output() -> Iterator[None]:
    """Lets a command run to its own end and exit status after its reader has closed the pipe.

    Hours of work are not lost because `head` has seen enough, and a failed job does not look like a good one.
    """
    before = sys.stdout, sys.stderr
    # A stream that was closed before Python began (`>&-`) is None; `print` then does nothing.
    streams: list[Any] = [stream and _TolerantStream(stream) for stream in before]
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
