"""Reads YAML within bounds: depth, number of nodes with all aliases followed, digits, valid Unicode.

PyYAML follows a hostile file into the C stack, into gigabytes of aliases, or into minutes of converting a number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from . import limits
from .documents import refuse_all_interpolations, refuse_digits, refuse_interpolations
from .files import InputError, read_text

NUMBER = re.compile(r"[-+]?[0-9.][0-9a-fA-FxXoO_:.eE+-]*")
"""Whatever YAML might read as a number."""
SURROGATE = re.compile(r"[\ud800-\udfff]")
FAST_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse_yaml(text: str, max_nodes: int = limits.MAX_CONFIG_NODES) -> Any:
    """Parses YAML to plain data.

    Raises:
        InputError: as `check_yaml`.
        yaml.YAMLError: not YAML.
    """
    check_yaml(text, max_nodes)
    try:
        return yaml.load(text, Loader=FAST_LOADER)
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML's constructors raise whatever they stumble over: a date that does not exist
        raise InputError(f"a value cannot be read: {error}") from None


def check_yaml(text: str, max_nodes: int = limits.MAX_CONFIG_NODES, loader: Any = FAST_LOADER) -> None:
    """Refuses YAML that is not safe to build: for readers that build it themselves, such as Hydra.

    Args:
        text: to be read.
        max_nodes: keys and values, with each alias counted as often as what it stands for.
        loader: the PyYAML loader that will build it. Another one may see other lists and aliases in the same text.

    Raises:
        InputError: nested too deep, too large or with too many interpolations when its aliases are followed, a number
            with too many digits, or text that is not valid Unicode.
        yaml.YAMLError: not YAML, or a mapping has a key twice, of which PyYAML would take the last.
    """
    count, keys = _YamlCount(max_nodes), _YamlKeys()
    for event in _iterate_events(text, loader):
        keys.see(event)
        if isinstance(event, yaml.AliasEvent):
            count.follow(str(event.anchor))
        elif isinstance(event, yaml.CollectionStartEvent):
            count.open(event.anchor, levels=1)
        elif isinstance(event, yaml.CollectionEndEvent):
            count.close()
        elif isinstance(event, yaml.ScalarEvent):
            _check_scalar(event)
            count.open(event.anchor, levels=0, interpolations=refuse_interpolations(event.value))
            count.close()


@dataclass
class _Node:
    """A value of a YAML document."""

    anchor: str | None
    levels: int
    """Lists and mappings inside each other, itself included, aliases followed; 0 for a plain value."""
    size: int = 1
    """Its keys and values and itself, aliases followed."""
    interpolations: int = 0
    """`${` in it, aliases followed."""


class _YamlCount:
    """Counts the values and levels of a YAML document while it is read, aliases followed."""

    def __init__(self, max_nodes: int) -> None:
        self.max_nodes = max_nodes
        self.total = self.interpolations = 0
        self.open_nodes: list[_Node] = []
        self.known: dict[str, _Node] = {}

    def open(self, anchor: str | None, levels: int, interpolations: int = 0) -> None:
        """A value begins."""
        if anchor is not None:
            self.known.pop(anchor, None)  # a later one of the same name
        self._refuse_more(1, levels, interpolations)
        self.open_nodes.append(_Node(anchor, levels, interpolations=interpolations))

    def close(self) -> None:
        """The innermost value ends."""
        node = self.open_nodes.pop()
        if node.anchor is not None:
            self.known[node.anchor] = node
        self._add(node)

    def follow(self, anchor: str) -> None:
        """An alias stands here. One for a value that has not ended stands inside of it, without end."""
        node = self.known.get(anchor, _Node(anchor, 0, size=self.max_nodes + 1))
        self._refuse_more(node.size, node.levels, node.interpolations)
        self._add(node)

    def _add(self, node: _Node) -> None:
        if self.open_nodes:
            above = self.open_nodes[-1]
            above.size += node.size
            above.interpolations += node.interpolations
            above.levels = max(above.levels, node.levels + 1)

    def _refuse_more(self, size: int, levels: int, interpolations: int) -> None:
        self.total += size
        self.interpolations += interpolations
        refuse_all_interpolations(self.interpolations)
        if self.total > self.max_nodes:
            raise InputError(f"more than {self.max_nodes} values, with its aliases followed")
        if len(self.open_nodes) + levels > limits.MAX_DEPTH:
            raise InputError("nested too deep, with its aliases followed")


class _YamlKeys:
    """Refuses a key that a mapping has twice."""

    def __init__(self) -> None:
        self.open_nodes: list[set[str] | None] = []  # keys of a mapping so far; None for a list
        self.at_key: list[bool] = []

    def see(self, event: Any) -> None:
        """Looks at the next event of the document."""
        if isinstance(event, yaml.CollectionEndEvent):
            self.open_nodes.pop()
            self.at_key.pop()
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.ScalarEvent) and self.open_nodes and self.at_key[-1]:
                self._add(event)
            if self.open_nodes and self.open_nodes[-1] is not None:
                self.at_key[-1] = not self.at_key[-1]
            if isinstance(event, yaml.CollectionStartEvent):
                is_mapping = isinstance(event, yaml.MappingStartEvent)
                self.open_nodes.append(set() if is_mapping else None)
                self.at_key.append(is_mapping)

    def _add(self, key: Any) -> None:
        known = self.open_nodes[-1]
        if known is not None and key.value in known and key.value != "<<":
            raise yaml.constructor.ConstructorError(None, None, f"found duplicate key {key.value}", key.start_mark)
        if known is not None:
            known.add(key.value)


def _iterate_events(text: str, loader: Any) -> Iterator[Any]:
    try:
        # By events, because building nodes follows the nesting into the C stack.
        yield from yaml.parse(text, Loader=loader)
    except UnicodeError:
        raise InputError("not valid Unicode") from None


def _check_scalar(event: Any) -> None:
    value: str = event.value
    if not value.isascii() and SURROGATE.search(value):
        raise InputError("not valid Unicode")
    is_number = event.tag.endswith((":int", ":float")) if event.tag else event.implicit[0] and NUMBER.fullmatch(value)
    if is_number:
        refuse_digits(value)


def read_yaml(file: Path, max_bytes: int = limits.MAX_CONFIG_BYTES) -> Any:
    """Reads a YAML file of a config's size to plain data.

    Raises:
        OSError: there is none, or it may not be read.
        InputError: as `parse_yaml`, or not a regular UTF-8 file of an acceptable size.
        yaml.YAMLError: not YAML.
    """
    with naming_yaml_file(file):
        return parse_yaml(read_text(file, max_bytes))


@contextmanager
def naming_yaml_file(file: Path) -> Iterator[None]:
    """Within it an error in YAML says in which file, not that it was in a text."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        if error.problem_mark is not None:
            mark = error.problem_mark
            error.problem_mark = yaml.Mark(str(file), 0, mark.line, mark.column, None, 0)
        raise


def read_yaml_as_text(file: Path) -> Any:
    """As `read_yaml`, but every value stays the text that it is in the file: 4:00:00 is no number of seconds."""
    text = read_text(file, limits.MAX_CONFIG_BYTES)
    check_yaml(text, loader=yaml.BaseLoader)
    return yaml.load(text, Loader=yaml.BaseLoader)
