"""Ends a process together with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def end_with_parent(parent: int) -> None:
    """On Linux, has the system kill this process as soon as its parent ends. Elsewhere this does nothing.

    Args:
        parent: id of the process that started this one.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:  # it ended before the call above
            os._exit(1)
