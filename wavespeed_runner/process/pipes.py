"""Output that nobody reads any more: `wavespeed-runner ... | head`, whose reader has seen enough."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Forgiving:
    """A text stream that drops what is written to a closed pipe, and is otherwise the stream that it was made of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """From here on, also for what is still in the buffer, which the interpreter writes when it ends."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)


@contextmanager
def closing_tolerated() -> Iterator[None]:
    """Lets a command go on to its own end, and to its own exit status, when its output is read no further.

    Hours of work are not given up for a line that nobody wants to see, and a failed job must not look like a good one.
    """
    before = sys.stdout, sys.stderr
    out, err = _Forgiving(sys.stdout), _Forgiving(sys.stderr)
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        # Now: what is left for the end of the process fails there, and the exit status becomes 120.
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before
