"""The ranks as rank 0 sees them: it has them call stages, waits for their answers and notices when one fails."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from time import monotonic
from typing import Any

from ...errors import RunError
from .failures import Failure, explain_end, is_lost_message, read_failure
from .messages import Kept, decode, encode
from .torch_group import Place, abort, divide_threads, join, leave, name_backend

END_S = 10.0
"""Seconds that a rank has to end when it is told to, and the system to say how a process ended."""
SETTLE_S = 4.0
"""Seconds to find out which rank failed first, after one has missed a message."""
INTERRUPT_S = 2.0
"""Seconds after Ctrl-C until the ranks are ended that rank 0 waits for: while it waits it cannot see the signal."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a group is started for. A job that needs the same uses it again."""

    ranks: int
    device: str
    """`cpu` or `cuda`."""
    timeout: float
    """Seconds until a rank that does not answer is given up: `parallel.timeout`."""


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


class RankGroup:
    """The other ranks of a running group. Not for use by several threads.

    Args:
        spec: what it was started for.
        peers: ranks 1, 2, ...
        on_close: called when the group is over.
    """

    def __init__(self, spec: Spec, peers: list[Peer], on_close: Callable[[], None] = lambda: None) -> None:
        self.spec, self.peers, self.on_close = spec, peers, on_close
        self.evidence: dict[str, Any] = {}
        """What the record says of the ranks: `backend`, and for each rank its device and host."""
        self.keys: dict[int, str] = {}
        """id of a value that every rank keeps -> its key."""
        self._local_world = 1
        self._awaited = peers
        self._changed = threading.Condition()
        self._closing = self._calling = self._closed = False
        self._wake, self._woken = socket.socketpair()
        self._wake.setblocking(False)
        self._listener = threading.Thread(target=self._listen, name="ranks", daemon=True)
        self._listener.start()

    def join(self, store: Any, places: list[Place], **told: Any) -> None:
        """Waits until all ranks are there, then joins them to one process group.

        Args:
            store: the `torch.distributed.Store` for rank 0.
            places: of all ranks, by rank.
            told: how the others get the store.

        Raises:
            RunError: a rank failed.
        """
        self._await_answers()
        self._local_world = places[0].local_world
        for peer, place in zip(self.peers, places[1:], strict=True):
            self._send(peer, {"do": "join", "place": place, **told})
        try:
            mine = join(places[0], store)
        except Exception as error:
            raise self._explain(error) from None
        others = [answer["rank"] for answer in self._await_answers()]
        self.evidence = {"backend": name_backend(self.spec.device), "ranks": [mine, *others]}

    def call(
        self,
        stage: str,
        options: Any,
        inputs: list[dict[str, Any]],
        keep: list[str | None],
        compute: Callable[[], list[Any]],
        identity: Any = None,
    ) -> list[Any]:
        """Has every rank call a stage, this one too.

        Args:
            stage: its name.
            options: its options.
            inputs: its inputs by name, for each sample.
            keep: the key under which each rank keeps the value of a sample; None: it does not.
            compute: the call on this rank.
            identity: of what the stage reads, for ranks that may see something else.

        Returns:
            What `compute` returned.

        Raises:
            RunError: another rank failed, or did not answer in time. What `compute` raises passes through, unless it
                failed for want of another rank's message.
        """
        shared = [{name: self._replace_kept(value) for name, value in given.items()} for given in inputs]
        message = {"do": "call", "stage": stage, "options": options, "inputs": shared, "keep": keep}
        for peer in self.peers:
            self._send(peer, {**message, "identity": identity})
        with self.watch_call():
            try:
                with divide_threads(self._local_world):
                    values = compute()
            except Exception as error:
                raise self._explain(error) from None
            self._await_answers()
        self.keys.update({id(value): key for key, value in zip(keep, values, strict=True) if key is not None})
        return values

    def hand_out(self, rank: int, message: dict[str, Any]) -> None:
        """Has another rank do something alone, after what it was told before; see `watch_call`."""
        self._send(self.peers[rank - 1], message)

    def has_answer(self, rank: int) -> bool:
        """True if another rank has answered already."""
        return bool(self.peers[rank - 1].answers)

    def await_answer(self, rank: int) -> dict[str, Any]:
        """Waits for the next answer of one rank. Raises RunError if any rank fails, or this one is too late."""
        return self._await_answers([self.peers[rank - 1]])[0]

    def check(self) -> None:
        """Raises RunError if a rank has failed."""
        if any(peer.failure for peer in self.peers):
            raise RunError(self._find_reason(settle=True))

    def release(self, keep: Set[str]) -> None:
        """Has the other ranks drop what they keep, except what is under these keys."""
        if dropped := [value for value, key in self.keys.items() if key not in keep]:
            for value in dropped:
                del self.keys[value]
            self._tell_all({"do": "release", "keep": list(self.keys.values())})

    def keeps(self, value: Any) -> bool:
        """True for a value that every rank keeps for itself."""
        return id(value) in self.keys

    def log_to(self, folder: Path | None) -> None:
        """Has the other ranks write what they print to `rank1.log`, ... in a folder; None: where they did before."""
        if folder is None or self.peers[0].log == folder / "rank1.log":
            return
        for peer in self.peers:
            peer.log = folder / f"rank{peer.rank}.log"
            self._send(peer, {"do": "log", "file": str(peer.log.absolute())})

    def close(self) -> None:
        """Ends the other ranks and leaves the process group; at once where a call is not over or a rank failed."""
        if self._closed:
            return
        self._closed = True
        in_order, self._closing = not self.failed and not self._closing, True
        if in_order:
            self._tell_all({"do": "leave"})
            self._listener.join(END_S)
        self._end_peers()
        self._listener.join(END_S)
        with suppress(RuntimeError):  # messages that nobody waits for any more
            leave()
        for peer in self.peers:
            peer.connection.close()
        self._wake.close()
        self._woken.close()
        self.on_close()

    @property
    def failed(self) -> bool:
        """True once a rank has failed or a call was left unfinished: no further call is possible."""
        return self._calling or any(peer.failure for peer in self.peers)

    def _replace_kept(self, value: Any) -> Any:
        return Kept(key=self.keys[id(value)]) if self.keeps(value) else value

    def _send(self, peer: Peer, message: dict[str, Any]) -> None:
        with suppress(OSError):  # it has ended; the listener finds out why
            peer.connection.send_bytes(encode(message))

    def _tell_all(self, message: dict[str, Any]) -> None:
        for peer in self.peers:
            self._send(peer, message)

    def _await_answers(self, of: list[Peer] | None = None) -> list[dict[str, Any]]:
        """Waits for one answer of each rank, or of these. Raises RunError if one fails, or does not answer in time."""
        end, self._awaited = monotonic() + self.spec.timeout, of or self.peers
        with self._changed:
            while not all(peer.answers for peer in self._awaited):
                if any(peer.failure for peer in self.peers) or monotonic() > end:
                    break
                self._changed.wait(1.0)
            else:
                return [peer.answers.pop(0) for peer in self._awaited]
        raise RunError(self._find_reason(settle=monotonic() <= end))

    def _explain(self, error: Exception) -> Exception:
        """The error to raise for one of this rank's call: another rank's failure, where that came first."""
        if not is_lost_message(error):
            return error
        return RunError(self._find_reason(settle=True) or f"the ranks have lost each other: {error}")

    def _find_reason(self, *, settle: bool) -> str:
        """What happened to the rank that failed first; '' where all have answered.

        Args:
            settle: give the others some seconds to tell.
        """
        end = monotonic() + SETTLE_S * settle
        with self._changed:
            while not (first := [p for p in self.peers if p.failure and not p.failure.follows]) and monotonic() < end:
                self._changed.wait(0.1)
        if not first:
            silent = [peer for peer in self._awaited if not peer.failure and not peer.answers]
            first = silent or [peer for peer in self.peers if peer.failure]
        if not first:
            return ""
        peer = first[0]
        happened = peer.failure.text if peer.failure else (
            f" has not answered for parallel.timeout={self.spec.timeout:g} seconds; raise it if a rank needs longer, "
            "as it may for compiling"
        )  # fmt: skip
        where = f"; its log is {peer.log}" if peer.log else ""
        return f"rank {peer.rank} ({self.spec.device}){happened}{where}"

    @contextmanager
    def watch_call(self) -> Iterator[None]:
        """Notes that a call is going on; it still is after an error. Signals wake the listener meanwhile."""
        in_main = threading.current_thread() is threading.main_thread()
        before = signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False) if in_main else -1
        self._calling = True
        try:
            yield
            self._calling = False
        finally:
            if in_main:
                signal.set_wakeup_fd(before)

    def _listen(self) -> None:
        """Takes in what the others say, in a thread of its own; ends when all have ended."""
        open_peers = {peer.connection: peer for peer in self.peers}
        interrupted = 0.0
        while open_peers:
            for ready in wait([*open_peers, self._woken], timeout=0.5):
                if ready is self._woken:
                    numbers = self._woken.recv(64)
                    interrupted = interrupted or monotonic() * bool({signal.SIGINT, signal.SIGTERM} & set(numbers))
                elif not self._take_in(open_peers[ready]):  # type: ignore[index]
                    del open_peers[ready]  # type: ignore[arg-type]
            if interrupted and monotonic() > interrupted + INTERRUPT_S:
                interrupted = 0.0
                if self._calling and not self._closing:
                    self._closing = True
                    self._end_peers()
                    abort()

    def _take_in(self, peer: Peer) -> bool:
        """Takes in one message, or the end of a rank; False at its end."""
        failure, answer = None, None
        try:
            answer = decode(peer.connection.recv_bytes(), lambda key: None)
            failure = read_failure(answer["failed"]) if "failed" in answer else None
        except (EOFError, OSError):
            if not self._closing and not peer.failure:
                failure = explain_end(_wait(peer.process), peer.log)
        with self._changed:
            if failure:
                peer.failure = failure
            elif answer is not None:
                peer.answers.append(answer)
            self._changed.notify_all()
        if failure and self._calling:
            abort()
        return answer is not None

    def _end_peers(self) -> None:
        for peer in self.peers:
            if peer.process:
                peer.process.kill()
                _wait(peer.process)
            else:
                with suppress(OSError), socket.socket(fileno=os.dup(peer.connection.fileno())) as line:
                    line.shutdown(socket.SHUT_RDWR)


def _wait(process: subprocess.Popen[bytes] | None) -> int | None:
    """The exit status of a process that is ending."""
    try:
        return process.wait(END_S) if process else None
    except subprocess.TimeoutExpired:
        return None
