"""Turns what a command raises into one line on stderr and an exit status.

0: done. 1: something failed while running. 2: the configuration is wrong; nothing was loaded or written.
130: interrupted.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from time import sleep
from typing import NoReturn

from ..errors import INTERRUPTED_MESSAGE, RunError, format_error, is_panic, make_printable
from .import_path import keep_children_out
from .interrupts import handle_stop_signals
from .pipes import tolerate_closed_output

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
MESSAGE_LIMIT = 1500
"""The most characters of an error message."""
FIRST_SPEAKS_S = 5.0
"""Seconds that a process gives the first of those that were started with it to say what is wrong with all."""


def exit_with(command: Callable[[list[str]], int]) -> NoReturn:
    """Runs a command with the process's own arguments and ends the process with the status that it returns."""
    keep_children_out()
    try:
        status = command(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were still being imported
        status = INTERRUPTED
    # Otherwise the interpreter's last garbage collection walks every object of torch and diffusers: one second.
    gc.freeze()
    sys.exit(status)


@tolerate_closed_output()
def run_command(
    command: Callable[[], int], explain: Callable[[Exception], str | None], *, follows: bool = False
) -> int:
    """Runs a command; turns an exception into one line on stderr and an exit status.

    Args:
        command: does the work and returns the exit status.
        explain: the message for an exception that means a wrong configuration; None for any other exception.
        follows: another process has the same command line, and says why it failed. Then all of them are ended, and
            this one with them, before it says the same again.

    Returns:
        The exit status.
    """
    users_choice = os.environ.get("HYDRA_FULL_ERROR")
    traceback_wanted = users_choice == "1"
    # Without it, Hydra prints a page and ends the process itself instead of raising.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # By default CUDA numbers cards by speed. A plan loads no torch and can only know the order on the bus.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        with handle_stop_signals():
            status = command()
            print(end="", flush=True)  # output that cannot be written is a failure
            return status
    except KeyboardInterrupt:
        return INTERRUPTED if follows else _print_error(INTERRUPTED_MESSAGE, INTERRUPTED)
    except BaseException as error:
        if not isinstance(error, Exception):
            if traceback_wanted or not is_panic(error):
                raise
            return _print_error(_describe_failure(error), FAILED)
        message = explain(error)
        if traceback_wanted and not (message is None and isinstance(error, RunError | OSError)):
            raise
        if message is None:  # of this process alone
            return _print_error(_describe_failure(error), FAILED)
        sleep(FIRST_SPEAKS_S if follows else 0)
        return _print_error(message, WRONG)
    finally:
        if users_choice is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = users_choice


def _describe_failure(error: BaseException) -> str:
    """The line for an error that is not the configuration's fault."""
    if isinstance(error, RunError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'outputs'}: {error.strerror or format_error(error)}"
    return f"{type(error).__name__}: {format_error(error)}; set HYDRA_FULL_ERROR=1 for the traceback"


def _print_error(message: str, status: int) -> int:
    text = make_printable(message)
    if len(text) > MESSAGE_LIMIT:  # it quotes a value of thousands of characters; what to do stands at the end
        text = f"{text[: MESSAGE_LIMIT // 2]} ... {text[-MESSAGE_LIMIT // 3 :]}"
    print(f"error: {text}", file=sys.stderr)
    return status
