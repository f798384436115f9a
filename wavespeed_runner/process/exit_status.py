"""What a command's end means: exceptions become one line on stderr and an exit status.

0 done; 2 the configuration is wrong, nothing was loaded or written; 1 something failed while running; 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from ..errors import RunError, one_line, printable
from .interrupts import heeded
from .pipes import closing_tolerated

Explained = Callable[[Exception], str | None]

DONE, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130


def leave(command: Callable[[list[str]], int]) -> NoReturn:
    """Ends the process with the exit status of a command of ours."""
    import gc

    try:
        status = command(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were still being imported
        status = INTERRUPTED
    # The interpreter would look through all that torch and diffusers have made for what can be freed: a second.
    gc.freeze()
    sys.exit(status)


@closing_tolerated()
def guarded(command: Callable[[], int], explained: Explained) -> int:
    """Runs a command; what it raises becomes one line on stderr and an exit status.

    Args:
        explained: the message for an error of a wrong configuration; None for any other error.
    """
    users_choice = os.environ.get("HYDRA_FULL_ERROR")
    users_full_error = users_choice == "1"
    # Makes Hydra raise instead of printing a page and exiting by itself.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # CUDA's own order is by speed; a plan, which loads no torch, only knows the one on the bus.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    try:
        with heeded():
            return command()
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on from what is in the store", INTERRUPTED)
    except Exception as error:
        message = explained(error)
        if users_full_error and not (message is None and isinstance(error, RunError | OSError)):
            raise
        return _say(_failure(error), FAILED) if message is None else _say(message, WRONG)
    finally:
        if users_choice is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = users_choice


def _failure(error: Exception) -> str:
    """The line for an error that is none of the configuration's."""
    if isinstance(error, RunError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'outputs'}: {error.strerror or one_line(error)}"
    return f"{type(error).__name__}: {one_line(error)}; HYDRA_FULL_ERROR=1 shows where"


def _say(message: str, status: int) -> int:
    print(f"error: {printable(message)}", file=sys.stderr)
    return status
