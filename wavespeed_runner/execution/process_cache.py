"""What a process keeps from one run to the next: loaded models, and values that it has read from the store."""

from __future__ import annotations

import gc
import sys
from collections import OrderedDict
from collections.abc import Set
from typing import Any

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

    def keep_only(self, keys: set[str]) -> None:
        """Drops everything but these keys, so that what the next run loads has room."""
        for key in self._stored.keys() - keys:
            self._bytes -= len(self._stored.pop(key))
        release(self.resources, keep=keys)

    def clear(self) -> None:
        """Drops everything."""
        self._stored.clear()
        self._bytes = 0
        release(self.resources)


def release(resources: dict[str, Any], keep: Set[str] = frozenset()) -> None:
    """Drops loaded models, except those with keys in `keep`, and gives their memory back to the device."""
    dropped = resources.keys() - keep
    for key in dropped:
        del resources[key]
    # With nothing to keep also the memory of a model that failed to load, which was never among the resources.
    if dropped or not keep:
        _free_memory()


def _free_memory() -> None:
    # Models contain reference cycles; and torch caches freed GPU memory, which another process cannot use then.
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
