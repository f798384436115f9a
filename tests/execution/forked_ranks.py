"""Ranks that start in a tenth of a second: forked from a process that has imported torch, no fresh interpreters.

What they do from there on is the same. `test_rank_runs.py` starts them as users do.
"""

from __future__ import annotations

import logging
import os
import sys
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import DupFd
from pathlib import Path
from socket import socketpair
from subprocess import TimeoutExpired
from typing import Any

from tests.children import CONTEXT
from wavespeed_runner.execution.ranks.peers import Peer


class Forked:
    """A forked process with the part of `subprocess.Popen` that a group uses."""

    def __init__(self, process: ForkServerProcess) -> None:
        self.process, self.kill, self.pid = process, process.kill, process.pid

    def wait(self, timeout: float) -> int:
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise TimeoutExpired("rank", timeout)
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode


def start_rank(rank: int, meeting: int, logs: Path) -> Peer:
    """In the place of `local._start_rank`."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"rank{rank}.log"
    ours, theirs = socketpair()
    with theirs:
        descriptors = (DupFd(theirs.fileno()), DupFd(meeting))
        process = CONTEXT.Process(target=_serve, args=(*descriptors, meeting, rank, str(log)))
        process.start()
    forked: Any = Forked(process)
    return Peer(rank=rank, connection=Connection(ours.detach()), process=forked, log=log)


def _serve(line: Any, meeting: Any, number: int, rank: int, log: str) -> None:
    from wavespeed_runner.execution.ranks.worker import serve

    connection = Connection(os.dup(line.detach()))
    os.dup2(meeting.detach(), number)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    sys.stdout = sys.stderr = os.fdopen(output, "a", buffering=1)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, force=True)
    import tests.execution.rank_stages  # noqa: F401  # registers them

    serve(connection, rank)
