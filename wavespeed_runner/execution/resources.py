"""Drops values that stay in a process: loaded models."""

from __future__ import annotations

import gc
import sys
from collections.abc import Set
from typing import Any


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
