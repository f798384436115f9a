"""The ranks as rank 0 uses them: it has all of them call a stage, and says why when one fails."""

from __future__ import annotations

import logging
from collections.abc import Callable, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import RunError
from ...process.interrupts import ignore_launcher
from .failures import is_lost_message
from .messages import Kept, encode
from .peers import Peer, Peers
from .torch_group import Place, confirm, divide_threads, join, leave, name_backend

SETTLE_S = 4.0
"""Seconds to find out which rank failed first, after one has missed a message."""
NOTICE_S = 2.0
"""Seconds after a signal in which a rank that had ended before is noticed, also on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a group is started for. A job that needs the same uses it again."""

    ranks: int
    device: str
    """`cpu` or `cuda`."""
    timeout: float
    """Seconds until a rank that does not answer is given up: `parallel.timeout`."""


log = logging.getLogger("wavespeed_runner")


class RankGroup:
    """This rank, 0, with all others. Not for use by several threads.

    Args:
        spec: what it was started for.
        peers: ranks 1, 2, ...
        on_close: called when the group is over.
    """

    def __init__(self, spec: Spec, peers: list[Peer], on_close: Callable[[], None] = lambda: None) -> None:
        self.spec, self.peers, self.on_close = spec, Peers(peers, spec.timeout), on_close
        self.evidence: dict[str, Any] = {}
        """What the record says of the ranks: `backend`, and for each rank its device and host."""
        self.peaks: list[int | None] = []
        """Of the other ranks, bytes at the peak of the last call, if that denoised."""
        self.keys: dict[int, str] = {}
        """id of a value that every rank keeps -> its key."""
        self._local_world = 1
        self._awaited: list[Peer] = self.peers
        """Those whose answers are waited for."""
        self._closed = False

    def join(self, store: Any, places: list[Place], **told: Any) -> None:
        """Waits until all ranks are there, then joins them to one process group.

        Args:
            store: the `torch.distributed.Store` for rank 0.
            places: of all ranks, by rank.
            told: how the others get the store.

        Raises:
            RunError: a rank failed.
        """
        self._collect()
        self._local_world = places[0].local_world
        for peer, place in zip(self.peers, places[1:], strict=True):
            self.peers.send(peer, encode({"do": "join", "place": place, **told}))
        try:
            mine = join(places[0], store)
        except Exception as error:
            raise self._explain(error) from None
        others = [answer["rank"] for answer in self._collect()]
        self.evidence = {"backend": name_backend(self.spec.device), "ranks": [mine, *others]}

    def call(
        self,
        stage: str,
        options: Any,
        inputs: list[dict[str, Any]],
        keep: list[str | None],
        compute: Callable[[], list[Any]],
    ) -> list[Any]:
        """Has every rank call a stage, this one too.

        Args:
            stage: its name.
            options: its options.
            inputs: its inputs by name, for each sample.
            keep: the key under which each rank keeps the value of a sample; None: it does not.
            compute: the call on this rank.

        Returns:
            What `compute` returned.

        Raises:
            RunError: another rank failed, or did not answer in time. What `compute` raises passes through, unless it
                failed for want of another rank's message.
        """
        shared = [{name: self._replace_kept(value) for name, value in given.items()} for given in inputs]
        with self.peers.watch_call():
            try:
                self.peers.tell_all({"do": "call", "stage": stage, "options": options, "inputs": shared, "keep": keep})
                with divide_threads(self._local_world):
                    values = compute()
                confirm()
                self.peaks = [answer["peak_memory"] for answer in self._collect()]
            except (Exception, KeyboardInterrupt) as error:
                raise self._explain(error) from None
        self.keys.update({id(value): key for key, value in zip(keep, values, strict=True) if key is not None})
        return values

    def watch_call(self) -> AbstractContextManager[None]:
        """To be open while ranks do something alone: what is left unfinished then leaves the group unusable."""
        return self.peers.watch_call()

    def hand_out(self, rank: int, message: dict[str, Any]) -> None:
        """Has another rank do something alone, after what it was told before."""
        self.peers.send(self.peers[rank - 1], encode(message))

    def has_answer(self, rank: int) -> bool:
        """True if another rank has answered already."""
        return bool(self.peers[rank - 1].answers)

    def await_answer(self, rank: int) -> dict[str, Any]:
        """Waits for the next answer of one rank. Raises RunError if any rank fails, or this one is too late."""
        return self._collect([self.peers[rank - 1]])[0]

    def check(self) -> None:
        """Raises RunError if a rank has failed."""
        if any(peer.failure for peer in self.peers):
            raise self._fail(settle=True)

    def release(self, keep: Set[str]) -> None:
        """Has the other ranks drop what they keep, except what is under these keys."""
        if dropped := [value for value, key in self.keys.items() if key not in keep]:
            for value in dropped:
                del self.keys[value]
            self.peers.tell_all({"do": "release", "keep": list(self.keys.values())})

    def keeps(self, value: Any) -> bool:
        """True for a value that every rank keeps for itself."""
        return id(value) in self.keys

    def log_to(self, folder: Path | None) -> None:
        """Has the other ranks write what they print to `rank1.log`, ... in a folder; None: where they did before."""
        if folder is None or self.peers[0].log == folder / "rank1.log":
            return
        for peer in self.peers:
            peer.log = folder / f"rank{peer.rank}.log"
            self.peers.send(peer, encode({"do": "log", "file": str(peer.log.absolute())}))

    def explain_interrupt(self) -> RunError | None:
        """The failed rank because of which a launcher ends all others; None: somebody wants the run to end."""
        lost = self.peers.launched and self.peers.await_failure(NOTICE_S, first=False)
        return self._fail(settle=False) if lost else None

    @property
    def failed(self) -> bool:
        """True once a rank has failed or a call was left unfinished: no further call is possible."""
        return self.peers.failed

    def close(self) -> None:
        """Ends the other ranks and leaves the process group."""
        if self._closed:
            return
        self._closed = True
        self.peers.end()
        try:
            leave()
        except Exception as error:  # messages that nobody waits for any more, or a group that was aborted
            log.info("leaving the ranks: %s", error)
        finally:
            self.on_close()

    def _replace_kept(self, value: Any) -> Any:
        return Kept(key=self.keys[id(value)]) if self.keeps(value) else value

    def _collect(self, of: list[Peer] | None = None) -> list[dict[str, Any]]:
        """One answer of each rank, or of these. Raises RunError if a rank fails, or does not answer in time."""
        self._awaited = of or self.peers
        answers = self.peers.collect(self.spec.timeout, self._awaited)
        if answers is None:
            raise self._fail(settle=any(peer.failure for peer in self.peers))
        return answers

    def _explain(self, error: BaseException) -> BaseException:
        """The error to raise for one of this rank's call: another rank's failure, where that came first."""
        if isinstance(error, KeyboardInterrupt):
            return self.explain_interrupt() or error
        # What this rank ran into after another one had failed says nothing: an aborted message leaves garbage.
        caused = any(peer.failure and not peer.failure.follows for peer in self.peers)
        if caused or is_lost_message(error):
            return self._fail(settle=not caused, own=str(error))
        return error

    def _fail(self, *, settle: bool, own: str = "") -> RunError:
        """The error that says which rank failed first, and how.

        Args:
            settle: give the ranks some seconds to tell.
            own: the error of this rank, which has no cause of its own.
        """
        if settle:
            self.peers.await_failure(SETTLE_S, first=True)
        if self.peers.launched:
            ignore_launcher()
        failed = [peer for peer in self.peers if peer.failure]
        silent = [peer for peer in self._awaited if not peer.failure and not peer.answers]
        for peer in (*(peer for peer in failed if not peer.failure.follows), *silent, *failed):  # type: ignore[union-attr]
            return RunError(self._describe_failure(peer))
        return RunError(f"the ranks have lost each other: {own}")

    def _describe_failure(self, peer: Peer) -> str:
        happened = (
            peer.failure.text
            if peer.failure
            else f" has not answered for parallel.timeout={self.spec.timeout:g} seconds; raise it if a rank needs "
            "longer, as it may for compiling"
        )
        where = f"; its log is {peer.log}" if peer.log else ""
        return f"rank {peer.rank} ({self.spec.device}){happened}{where}"
