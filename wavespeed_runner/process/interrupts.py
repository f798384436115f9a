"""Ctrl-C, and a scheduler's or a timeout's SIGTERM: both are a `KeyboardInterrupt`, and both are remembered.

Python raises it wherever the program happens to be. An import in C, or a library that catches everything, makes an
error of its own of it, or nothing: a run that somebody stopped would count as failed, or go on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

_state = {"came": False}


def came() -> bool:
    """Whether one has come, of the command that runs."""
    return _state["came"]


def check() -> None:
    """Raises `KeyboardInterrupt` where one came that nobody passed on."""
    if came():
        raise KeyboardInterrupt from None


@contextmanager
def heeded() -> Iterator[None]:
    """Raises `KeyboardInterrupt` at either signal, or in place of the error that somebody made of it.

    In other threads than the main one, which alone gets signals, and for a Ctrl-C that whoever started us has us
    ignore, nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGTERM) is _interrupt:  # inside of another, which heeds both
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    except Exception:
        check()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state["came"] = False


def _interrupt(_number: int, _frame: Any) -> NoReturn:
    _state["came"] = True
    raise KeyboardInterrupt
