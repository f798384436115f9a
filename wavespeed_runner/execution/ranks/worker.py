"""What the ranks other than 0 do: they repeat calls of stages until rank 0 ends.

    python -P -m wavespeed_runner.execution.ranks.worker FD RANK PARENT

FD is an open socket to rank 0. A rank that fails tells why and ends at once: its sockets close, so that what the others
wait for from it fails too. It ends likewise when rank 0 has ended.
"""

from __future__ import annotations

if __name__ == "__main__":
    # Before any other import: see there.
    from ...process.import_path import leave_current_folder

    leave_current_folder()

import logging
import os
import shutil
import signal
import sys
import threading
from importlib import import_module
from multiprocessing.connection import Connection
from queue import SimpleQueue
from time import sleep
from typing import Any, NoReturn

from ...accelerate.parallel.lean import load_lean
from ...artifacts import Latents
from ...process.parent import end_with_parent
from ...registry import lookup
from ..resources import release
from .failures import describe_error
from .messages import decode, encode
from .torch_group import Place, confirm, divide_threads, join, leave

PATIENCE_S = 60.0
"""Most seconds that a failed rank stays for rank 0."""

MAKER = "wavespeed_runner.execution.batches"
"""Makes whole batches. By name: it stands above this room."""

log = logging.getLogger("wavespeed_runner")


def main() -> NoReturn:
    """Serves rank 0 over an inherited socket."""
    descriptor, rank, parent = map(int, sys.argv[1:4])
    end_with_parent(parent)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    serve(Connection(descriptor), rank)


def serve(connection: Connection, rank: int, store: Any = None, *, patient: bool = False) -> NoReturn:
    """Does what rank 0 says until it says `leave`; then ends the process.

    Args:
        connection: to rank 0.
        rank: of this process.
        store: the `torch.distributed.Store` that the ranks share, where they have one before rank 0 names it.
        patient: after a failure, end when rank 0 does. A launcher ends all ranks as soon as one has ended, and rank 0
            has a record to write.
    """
    # Rank 0 gets these as well, and ends the others after it has written the record.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    worker = Worker(connection, store)
    threading.Thread(target=worker.read, daemon=True).start()
    try:
        import torch  # noqa: F401  # slow to import; rank 0 waits for all

        worker.answer()
        while True:
            worker.do(worker.inbox.get())
    except BaseException as error:
        log.exception("rank %d failed", rank)
        connection.send_bytes(encode({"failed": describe_error(error)}))
        if patient:
            leave()  # what the others wait for fails now
            sleep(PATIENCE_S)
        worker.end(1)


class Worker:
    """A rank's values and its connection to rank 0."""

    def __init__(self, connection: Connection, store: Any) -> None:
        self.connection, self.store = connection, store
        self.kept: dict[str, Any] = {}
        """Loaded models, by key."""
        self.inbox: SimpleQueue[bytes] = SimpleQueue()
        self.place: Place | None = None
        self.folder: str | None = None
        """Holds the file through which the ranks find each other; removed at the end."""

    def read(self) -> None:
        """Puts messages into the inbox; ends the process when rank 0 has ended, also while a stage computes."""
        while True:
            try:
                self.inbox.put(self.connection.recv_bytes())
            except (EOFError, OSError):
                self.end(1)

    def end(self, status: int) -> NoReturn:
        """Ends the process at once, whatever its threads are doing."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    def answer(self, **told: Any) -> None:
        """Tells rank 0 that what it said is done."""
        self.connection.send_bytes(encode(told))

    def do(self, raw: bytes) -> None:
        """Does what a message says."""
        message = decode(raw, self.kept.__getitem__)
        match message["do"]:
            case "join":
                self.place, self.folder = message["place"], message["folder"]
                self.answer(rank=join(message["place"], self.store or _open_store(message)))
            case "call":
                import_module(MAKER).release_models()  # of whole batches; two models at once may not fit
                peak = self.call(message)
                del message
                self.answer(peak_memory=peak)
            case "make":
                self.answer(**import_module(MAKER).make_batch(message))
            case "release":
                release(self.kept, keep=set(message["keep"]))
            case "log":
                _write_to(message["file"])
            case "leave":
                leave()
                self.end(message["status"])

    def call(self, message: dict[str, Any]) -> int | None:
        """Calls a stage as rank 0 does; keeps what cannot be stored, and throws the rest away.

        Returns:
            The most memory at the peak of denoising, if that is what the stage does and the system tells.
        """
        stage, options, inputs = lookup("stage", message["stage"]).implementation, message["options"], message["inputs"]
        assert self.place is not None
        with divide_threads(self.place.local_world), load_lean():
            values = stage.batch(options, inputs) if stage.batch else [stage.function(options, **inputs[0])]
        confirm()
        for key, value in zip(message["keep"], values, strict=True):
            if key is not None:
                self.kept[key] = value
        peaks = [value.data.get("peak_memory") for value in values if isinstance(value, Latents)]
        return max((peak for peak in peaks if peak), default=None)


def _open_store(message: dict[str, Any]) -> Any:
    import torch.distributed as dist

    return dist.FileStore(message["meeting"], message["place"].world)


def _write_to(file: str) -> None:
    """Sends what this process prints to another file, unless it runs on a machine that does not have the folder."""
    if not os.path.isdir(os.path.dirname(os.path.dirname(file))):
        return
    os.makedirs(os.path.dirname(file), exist_ok=True)
    with open(file, "ab") as stream:
        for descriptor in (1, 2):
            os.dup2(stream.fileno(), descriptor)


if __name__ == "__main__":
    main()
