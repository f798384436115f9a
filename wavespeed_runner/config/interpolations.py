"""Counts what the interpolations of a config expand to, before anything follows them.

`${a}` may name a list or a mapping, or a text with other interpolations: a few levels of ten each would be copied into
more values than fit into memory. So each counts as what it stands for, as the aliases of YAML do.
"""

from __future__ import annotations

import re
from typing import Any

from ..errors import ConfigError
from ..inputs.limits import MAX_CONFIG_NODES, MAX_DEPTH

PLAIN = re.compile(r"\$\{([\w.\[\]]+)\}")
"""An interpolation that only names another key."""
NAME = re.compile(r"[^.\[\]]+")

TEXT_UNIT = 1000
"""So many characters of a text count as one value."""

Place = tuple[Any, ...]
"""The names and positions that lead to a value."""


def refuse_expansion(config: dict[str, Any]) -> None:
    """Refuses plain data whose interpolations come to too many values.

    Raises:
        ConfigError: names the key at which there are too many, or too many one behind the other.
    """
    _Expansion(config).refuse_more((), config)


class _Expansion:
    """Counts the values of one config, with all interpolations followed."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.total = 0
        self.known: dict[Place, int] = {}

    def refuse_more(self, place: Place, node: Any) -> None:
        """Adds what the interpolations in a node come to; those in a circle are reported when they are resolved."""
        for name, value in _items(node):
            self.refuse_more((*place, name), value)
        if isinstance(node, str) and "${" in node:
            self.total += sum(self._count(target, place, 0) for target in self._find_targets(place, node, place, 0))
            if self.total > MAX_CONFIG_NODES:
                self._refuse(place, f"more than {MAX_CONFIG_NODES} values, with interpolations followed")

    def _count(self, place: Place, start: Place, depth: int) -> int:
        """The values at a place, itself included, interpolations followed."""
        if depth > 2 * MAX_DEPTH:
            self._refuse(start, "too many interpolations, one behind the other")
        if place not in self.known:
            self.known[place] = 0  # while it is counted: only a circle meets it
            node = self._look_up(place)
            inner = [(*place, name) for name, _ in _items(node)]
            count = 1
            if isinstance(node, str):
                count += len(node) // TEXT_UNIT
                inner = self._find_targets(place, node, start, depth)
            self.known[place] = count + sum(self._count(p, start, depth + 1) for p in inner)
        return self.known[place]

    def _look_up(self, place: Place) -> Any:
        node: Any = self.config
        for name in place:
            node = node[name]
        return node

    def _find_targets(self, place: Place, text: str, start: Place, depth: int) -> list[Place]:
        """The places that the interpolations of a text name, as far as they exist."""
        targets = (self._find(place, match, start, depth) for match in PLAIN.findall(text))
        return [target for target in targets if target is not None]

    def _find(self, place: Place, reference: str, start: Place, depth: int) -> Place | None:
        """The place that `a.b`, or `.b` for one beside it, names; a value on the way may be an interpolation too."""
        if depth > 2 * MAX_DEPTH:
            self._refuse(start, "too many interpolations, one behind the other")
        dots = len(reference) - len(reference.lstrip("."))
        found = place[: max(len(place) - dots, 0)] if dots else ()
        node = self._look_up(found)
        for name in NAME.findall(reference):
            if isinstance(node, str) and (match := PLAIN.fullmatch(node)):
                target = self._find(found, match[1], start, depth + 1)
                if target is None:
                    return None
                found, node = target, self._look_up(target)
            is_key = isinstance(node, dict) and name in node
            key = name if is_key else next((key for key, _ in _items(node) if str(key) == name), None)
            if key is None:
                return None
            found, node = (*found, key), node[key]
        return found

    def _refuse(self, place: Place, problem: str) -> None:
        raise ConfigError(f"{'.'.join(map(str, place))}: {problem}")


def _items(node: Any) -> Any:
    return node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
