"""The work of typing a config, done once for all that differ in plain values alone.

Building OmegaConf's schema and merging a config into it takes thirty milliseconds; a sweep over values needs it once.
After that only the changed values are set, each checked and converted by its own typed node, and all interpolations are
resolved anew. What decides the schema, or is no plain value, is part of the shape: another shape is typed from scratch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from omegaconf import DictConfig, ValueNode

KEPT = 32
"""How many shapes are remembered."""

Path = tuple[Any, ...]


@dataclass(kw_only=True)
class _Typed:
    """A config merged into its schema, and the nodes of its plain values."""

    root: DictConfig
    nodes: list[ValueNode]
    values: list[Any]
    """What the nodes hold."""


_known: OrderedDict[Hashable, _Typed] = OrderedDict()


def convert(
    composed: dict[str, Any],
    schemas: tuple[type, ...],
    merged: Callable[[dict[str, Any]], DictConfig],
    finished: Callable[[DictConfig], Any],
    finishing: tuple[str, ...],
) -> Any:
    """`finished(merged(composed))`, with what is known of other configs of this shape.

    Args:
        schemas: the classes that decide the schema, in a fixed order.
        merged: from scratch.
        finished: from the merged config to the result.
        finishing: keys at the top that `finished` may set.
    """
    leaves = list(_leaves(composed, ()))
    plain = [(path, value) for path, value in leaves if _is_plain(path, value)]
    shape = (schemas, tuple((path, type(v) if _is_plain(path, v) else repr(v)) for path, v in leaves))
    if shape in _known:
        with suppress(Exception):  # what is wrong is said by the other way
            return _finished(_updated(shape, [value for _, value in plain]), finished, finishing)
        del _known[shape]
    root = merged(composed)
    result = _finished(root, finished, finishing)
    nodes = [_node(root, path) for path, _ in plain]
    if all(isinstance(node, ValueNode) for node in nodes):
        _known[shape] = _Typed(root=root, nodes=nodes, values=[value for _, value in plain])
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return result


def _leaves(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Values that are no mappings, with the keys that lead to them; an empty mapping too."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _leaves(value, (*path, name))
    else:
        yield path, node


def _is_plain(path: Path, value: Any) -> bool:
    """Whether another value of the same type would only change this one node. Names choose schemas."""
    if isinstance(value, str):
        return "${" not in value and value != "???" and path[-1] != "name"
    return isinstance(value, int | float | Enum)


def _node(root: Any, path: Path) -> Any:
    node = root
    for name in path:
        node = node._get_node(name)
    return node


def _updated(shape: Hashable, values: list[Any]) -> DictConfig:
    typed = _known[shape]
    _known.move_to_end(shape)
    for index, (old, new) in enumerate(zip(typed.values, values, strict=True)):
        if repr(old) != repr(new):
            typed.nodes[index]._set_value(new)
            typed.values[index] = new
    return typed.root


def _finished(root: DictConfig, finished: Callable[[DictConfig], Any], finishing: tuple[str, ...]) -> Any:
    """The result; afterwards the root is as it was."""
    content: Any = root.__dict__["_content"]
    before = [(key, content[key], content[key]._value()) for key in finishing]
    try:
        return finished(root)
    finally:
        for key, node, value in before:
            content[key] = node
            node._set_value(value)


def convert_stage_options(options: type, given: dict[str, Any], config: Any) -> Any | None:
    """A stage's options that follow a typed config and a few plain values, without OmegaConf; None where it takes more.

    Args:
        options: dataclass of the stage's options. A default `${a.b}` follows the config's `a.b`.
        given: what the graph gives.
    """
    hints, values = _hints(options), {}
    if not given.keys() <= hints.keys():
        return None
    for field in fields(options):
        if field.name in given:
            value = given[field.name]
        elif isinstance(field.default, str) and field.default.startswith("${") and field.default.endswith("}"):
            value = _at(config, field.default[2:-1])
        elif field.default is MISSING or is_dataclass(field.default):
            return None
        else:
            value = field.default
        if not _fits(value, hints[field.name]):
            return None
        values[field.name] = value
    with suppress(Exception):
        return options(**values)
    return None


@lru_cache(maxsize=256)
def _hints(options: type) -> dict[str, Any]:
    return get_type_hints(options)


def _at(config: Any, key: str) -> Any:
    """The value at a dotted key; what fits nowhere when there is none."""
    for name in key.split("."):
        if not is_dataclass(config) or not hasattr(config, name):
            return MISSING
        config = getattr(config, name)
    return config


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of this type as it is: OmegaConf would neither convert nor refuse nor resolve it."""
    wanted = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, str) and ("${" in value or value == "???"):
        return False
    if value is None:
        return NoneType in wanted
    if len([one for one in wanted if one is not NoneType]) != 1:
        return False
    (kind,) = (one for one in wanted if one is not NoneType)
    if isinstance(value, int | float | str) and not isinstance(value, Enum):
        return type(value) is kind
    return isinstance(kind, type) and (is_dataclass(kind) or issubclass(kind, Enum)) and isinstance(value, kind)
