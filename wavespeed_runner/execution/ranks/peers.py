"""The other ranks as seen from rank 0: a thread takes in what they say, and notices when one ends."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any

from .failures import Failure, explain_end, read_failure
from .messages import decode, encode
from .torch_group import abort

END_S = 10.0
"""Seconds that a rank has to end when it is told to, and the system to say how a process ended."""
INTERRUPT_S = 2.0
"""Seconds after Ctrl-C until the ranks are ended that rank 0 waits for: while it waits it cannot see the signal."""


@dataclass(kw_only=True)
class Peer:
    """Another rank."""

    rank: int
    connection: Connection
    process: subprocess.Popen[bytes] | None = None
    """None: somebody else has started it."""
    log: Path | None = None
    """Where its output goes."""
    answers: list[dict[str, Any]] = field(default_factory=list)
    failure: Failure | None = None


class Peers(list[Peer]):
    """All other ranks, in order.

    Args:
        peers: ranks 1, 2, ...
        timeout: seconds that a rank has to take in a message.
    """

    def __init__(self, peers: list[Peer], timeout: float) -> None:
        super().__init__(peers)
        self.launched = not all(peer.process for peer in peers)
        """A launcher has started them, and ends them."""
        self.calling = False
        """A call is going on; it still is after an error."""
        self.changed = threading.Condition()
        """Notified when something about a rank changes."""
        self._closing = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        for peer in peers:
            with _share(peer.connection) as line:
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout) + 1, 0))
        self.listener = threading.Thread(target=self._listen, name="ranks", daemon=True)
        self.listener.start()

    @property
    def failed(self) -> bool:
        """True once a rank has failed or a call was left unfinished: no further call is possible."""
        return self.calling or any(peer.failure for peer in self)

    def tell_all(self, message: dict[str, Any]) -> None:
        """Sends a message to every rank."""
        raw = encode(message)
        for peer in self:
            self.send(peer, raw)

    def send(self, peer: Peer, raw: bytes) -> None:
        """Sends an encoded message to a rank."""
        with suppress(OSError):  # it has ended or hangs; so there will be no answer
            peer.connection.send_bytes(raw)

    def collect(self, seconds: float, of: Sequence[Peer]) -> list[dict[str, Any]] | None:
        """Waits for an answer of each of these ranks; None where any rank fails or the time is over."""
        with self.changed:
            self.changed.wait_for(lambda: all(p.answers for p in of) or any(p.failure for p in self), seconds)
            if all(peer.answers for peer in of) and not any(peer.failure for peer in self):
                return [peer.answers.pop(0) for peer in of]
        return None

    def await_failure(self, seconds: float, *, first: bool) -> bool:
        """Waits until a rank has failed; False where none has. first: only a failure that follows from no other."""
        with self.changed:
            return self.changed.wait_for(
                lambda: any(peer.failure and not (first and peer.failure.follows) for peer in self), seconds
            )

    @contextmanager
    def watch_call(self) -> Iterator[None]:
        """Notes that a call is going on. Signals wake the listener meanwhile."""
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False) if in_main else -1
        self.calling = True
        try:
            yield
            self.calling = False
        finally:
            if in_main:
                signal.set_wakeup_fd(before)

    def end(self) -> None:
        """Ends the ranks: at once where a call is not over or one has failed, else they end themselves.

        Those of a launcher that cannot be told end with this process, see `worker.serve`.
        """
        in_order = not self.failed and not self._closing
        self._closing = True
        if in_order:
            self.tell_all({"do": "leave", "status": 0})
            self.listener.join(END_S)
        self._kill()
        if in_order or not self.launched:
            self.listener.join(END_S)
            for line in (*(peer.connection for peer in self), self._wake, self._woken):
                line.close()  # type: ignore[attr-defined]

    def _kill(self) -> None:
        for peer in self:
            if peer.process:
                peer.process.kill()
                _wait(peer.process)

    def _listen(self) -> None:
        """Takes in what the others say, in a thread of its own; ends when all have ended."""
        waiting = {peer.connection: peer for peer in self}
        interrupted = 0.0
        while waiting:
            for ready in wait([*waiting, self._woken], timeout=0.5):
                if ready is self._woken:
                    numbers = self._woken.recv(64)
                    interrupted = interrupted or monotonic() * bool({signal.SIGINT, signal.SIGTERM} & set(numbers))
                elif not self._take_in(waiting[ready]):  # type: ignore[index]
                    del waiting[ready]  # type: ignore[arg-type]
            if interrupted and monotonic() > interrupted + INTERRUPT_S:
                interrupted = 0.0
                if self.calling and not self._closing:
                    self._break_off()

    def _take_in(self, peer: Peer) -> bool:
        """Takes in one message, or the end of a rank; False at its end."""
        failure, answer = None, None
        try:
            answer = decode(peer.connection.recv_bytes(), lambda key: None)
            failure = read_failure(answer["failed"]) if "failed" in answer else None
        except (EOFError, OSError):
            if not self._closing and not peer.failure:
                failure = explain_end(_wait(peer.process), peer.log)
        with self.changed:
            if failure:
                peer.failure = failure
            elif answer is not None:
                peer.answers.append(answer)
            self.changed.notify_all()
        if failure and self.calling:
            abort()
        return answer is not None

    def _break_off(self) -> None:
        """Ends all ranks in the middle of a call, so that rank 0 does not wait for them any longer."""
        self._closing = True
        self._kill()
        for peer in self:
            if not peer.process:  # it sees that nobody is there any more
                with suppress(OSError), _share(peer.connection) as line:
                    line.shutdown(socket.SHUT_RDWR)
        abort()


def _share(connection: Connection) -> socket.socket:
    """The socket of a connection, to be closed apart from it."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def _wait(process: subprocess.Popen[bytes] | None) -> int | None:
    """The exit status of a process that is ending."""
    try:
        return process.wait(END_S) if process else None
    except subprocess.TimeoutExpired:
        return None
