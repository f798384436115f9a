"""Which keys the chosen option of a group sets, whatever comes after it."""

from __future__ import annotations

from collections.abc import Sequence

from . import fast
from .compose import find_key, parse_override
from .shadowed import find_sources, walk_read


def sets_key(overrides: Sequence[str], group: str, key: str) -> bool:
    """Whether a group's chosen option, or one that it starts from, sets a top-level key. Inside `composer` only."""
    chosen = dict((group, parse_override(override).value()) for override in overrides if find_key(override) == group)
    sources = fast.compose.find_repository(list(overrides)).get_sources()
    read = [path for path in walk_read(chosen, sources) if path.startswith(f"{group}/")]
    return any(key in find_sources(path, sources)[0].load_config(path).config for path in read)
