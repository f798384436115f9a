"""Walks over JSON data without recursion: how deep it is nested counts nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def walk(data: Any) -> Iterator[Any]:
    """All values in JSON data, at any depth, level by level; the data itself first."""
    level = [data]
    while level:
        yield from level
        nodes = (node.values() if isinstance(node, dict) else node for node in level if isinstance(node, list | dict))
        level = [value for node in nodes for value in node]


def list_mappings(data: Any) -> Iterator[dict[str, Any]]:
    """All objects in JSON data: a text model inside of a larger one has a configuration inside of it."""
    return (node for node in walk(data) if isinstance(node, dict))
