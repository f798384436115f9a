"""Why ranks failed: what the run's one line says of it."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from pathlib import Path

from ...errors import format_error

LOST_MESSAGE = re.compile(r"gloo|nccl|connection (closed|reset)|broken pipe|process ?group", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """How a rank failed."""

    text: str
    """What happened to it, behind its name: `was killed by SIGKILL`, `: OutOfMemoryError: ...`."""
    follows: bool = False
    """True where it only missed a message of another rank, whose failure came first."""


def describe_error(error: BaseException) -> dict[str, str | bool]:
    """What a rank tells rank 0 of its error."""
    return {"type": type(error).__name__, "message": format_error(error), "follows": is_lost_message(error)}


def is_lost_message(error: BaseException | None) -> bool:
    """True for an error of torch.distributed: another rank has ended, or does not answer."""
    while error is not None:
        module = type(error).__module__
        if "distributed" in module or (isinstance(error, RuntimeError) and LOST_MESSAGE.search(str(error))):
            return True
        error = error.__cause__
    return False


def read_failure(told: dict[str, str | bool]) -> Failure:
    """The failure that a rank has told of itself."""
    kind = "" if told["type"] == "RunError" else f"{told['type']}: "
    return Failure(text=f": {kind}{told['message']}", follows=bool(told["follows"]))


def explain_end(status: int | None, log: Path | None) -> Failure:
    """The failure of a rank that ended without telling why.

    Args:
        status: of its process; negative: the signal that ended it. None: unknown, it runs on another machine.
        log: its output.
    """
    if status is None:
        return Failure(text=" has ended, or its machine is out of reach")
    if status == -signal.SIGKILL:
        return Failure(text=" was killed by SIGKILL: by hand, or by the system because memory ran out")
    if status < 0:
        return Failure(text=f" was ended by {signal.Signals(-status).name}")
    return Failure(text=f" ended with status {status}: {_read_last_line(log)}")


def _read_last_line(log: Path | None) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log and log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "it said nothing")
