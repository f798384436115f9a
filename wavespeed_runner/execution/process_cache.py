"""What a process keeps from one run to the next: loaded models, and values that it has read from the store."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Set
from pathlib import Path
from typing import Any

from ..planning.graph import Node
from .ranks.adopted import adopt, is_launched
from .ranks.group import RankGroup, Spec
from .ranks.local import start
from .ranks.need import find_need
from .resources import release

STORED_BYTES = 2**30
"""Most bytes of stored values that a process keeps."""


class ProcessCache:
    """Loaded models, and the stored values that were used last, by key.

    Args:
        limit: most bytes of stored values.
    """

    def __init__(self, limit: int = STORED_BYTES) -> None:
        self.resources: dict[str, Any] = {}
        """Outputs that cannot be stored (loaded models), by key."""
        self.fresh: set[str] = set()
        """Keys that this process has computed: with `rerun=true` each is computed once."""
        self.ranks: RankGroup | None = None
        """The other ranks, while there are some: they stay for the next job that needs as many."""
        self.rank_logs: Path | None = None
        """Folder for the logs of the other ranks."""
        self.limit = limit
        self._stored: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0

    def read(self, key: str) -> bytes | None:
        """Returns the bytes that the store has under a key, or None where they are not kept here."""
        raw = self._stored.get(key)
        if raw is not None:
            self._stored.move_to_end(key)
        return raw

    def remember(self, key: str, raw: bytes) -> None:
        """Keeps what the store now has under a key, and drops the values that were used longest ago."""
        # A value that was computed again differs under the same key: it has new timings.
        self._bytes -= len(self._stored.pop(key, b""))
        if len(raw) > self.limit:
            return
        self._stored[key] = raw
        self._bytes += len(raw)
        while self._bytes > self.limit:
            self._bytes -= len(self._stored.popitem(last=False)[1])

    def forget(self, keys: Iterable[str]) -> None:
        """Forgets values that another process has written anew."""
        for key in keys:
            self._bytes -= len(self._stored.pop(key, b""))

    def keep_only(self, keys: set[str]) -> None:
        """Drops everything but these keys, so that what the next run loads has room."""
        self.forget(self._stored.keys() - keys)
        self.release(keys)

    def clear(self) -> None:
        """Drops everything, and ends the other ranks."""
        self._stored.clear()
        self._bytes = 0
        self.end_ranks()
        release(self.resources)

    def release(self, keep: Set[str] = frozenset()) -> None:
        """Drops loaded models, except those with keys in `keep`, here and on the other ranks."""
        if self.ranks:
            self.ranks.release(keep)
        release(self.resources, keep)

    def find_ranks(self, node: Node, inputs: Collection[Any]) -> RankGroup | None:
        """The ranks that call a stage together, started if need be; None where it is this process alone.

        Args:
            node: the stage with its options.
            inputs: values that it takes. One that all ranks keep makes it a call of all.

        Raises:
            RunError: a rank failed to start.
        """
        collective = node.stage.collective
        if not (collective(inputs) if callable(collective) else collective):
            return None
        if spec := find_need(node.options):
            return self.provide_ranks(spec)
        if not self.ranks or not any(map(self.ranks.keeps, inputs)):
            return None
        self.ranks.log_to(self.rank_logs)
        return self.ranks

    def provide_ranks(self, spec: Spec) -> RankGroup:
        """The ranks that a job needs: those that are there, or new ones. RunError: one failed to start."""
        if self.ranks and (self.ranks.failed or self.ranks.spec != spec):
            self.end_ranks()
        self.ranks = self.ranks or (adopt(spec) if is_launched() else start(spec, self.rank_logs))
        self.ranks.log_to(self.rank_logs)
        return self.ranks

    def end_ranks(self) -> None:
        """Ends the other ranks and drops the models that were theirs too."""
        if self.ranks:
            ranks, self.ranks = self.ranks, None
            release(self.resources, keep=self.resources.keys() - set(ranks.keys.values()))
            ranks.close()
