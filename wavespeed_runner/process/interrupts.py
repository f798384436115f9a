"""Handles Ctrl-C and SIGTERM (from a scheduler or a timeout): both raise `KeyboardInterrupt`, and both are remembered.

Python raises the exception wherever the program happens to be. An import in C, or a library that catches every
exception, may swallow it or turn it into an error of its own. Without the memory, a run that was stopped on purpose
would count as failed, or would carry on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

_state = {"interrupted": False}


def was_interrupted() -> bool:
    """True once the running command has received Ctrl-C or SIGTERM."""
    return _state["interrupted"]


def raise_if_interrupted() -> None:
    """Raises `KeyboardInterrupt` if a stop signal has come and something swallowed its exception."""
    if was_interrupted():
        raise KeyboardInterrupt from None


def ignore_launcher() -> None:
    """From now on ignores SIGTERM, and forgets one that has come; for the main thread, which alone may say so.

    torchrun sends it to all ranks because one has failed. What failed is known then, and a record is to be written.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _state["interrupted"] = False


@contextmanager
def handle_stop_signals() -> Iterator[None]:
    """Makes either signal raise `KeyboardInterrupt`, also when a library turned the exception into another error.

    Does nothing outside the main thread, which alone receives signals. Ctrl-C stays ignored where the parent process
    had us ignore it (`nohup`).
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if signal.getsignal(signal.SIGTERM) is _interrupt:  # nested: the outer block handles both
        yield
        return
    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    except Exception:
        raise_if_interrupted()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _state["interrupted"] = False


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    _state["interrupted"] = True
    raise KeyboardInterrupt
