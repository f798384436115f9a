"""Converts configs to dataclasses, with the schema built once for all configs that differ in plain values alone.

Building OmegaConf's schema and merging a config into it takes thirty milliseconds. A config of a shape that is already
known only has its changed values set, each checked and converted by its own typed node, and all its interpolations
resolved again. Whatever chooses the schema, or is not a plain value, is part of the shape; a new shape is converted
from scratch.
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
class _Merged:
    """A config merged into its schema, and the nodes of its plain values."""

    root: DictConfig
    nodes: list[ValueNode]
    values: list[Any]
    """What the nodes hold."""


_known: OrderedDict[Hashable, _Merged] = OrderedDict()


def convert(
    composed: dict[str, Any],
    schemas: tuple[type, ...],
    merge: Callable[[dict[str, Any]], DictConfig],
    finish: Callable[[DictConfig], Any],
    finish_sets: tuple[str, ...],
) -> Any:
    """Returns `finish(merge(composed))`, reusing the merged schema of an earlier config of the same shape.

    Args:
        composed: the config as plain data, interpolations unresolved.
        schemas: the classes that make up the schema, in a fixed order.
        merge: merges a config into its schema, from scratch.
        finish: turns the merged config into the result.
        finish_sets: top-level keys that `finish` may set.
    """
    leaves = list(_walk_leaves(composed, ()))
    plain = [(path, value) for path, value in leaves if _is_plain(path, value)]
    shape = (schemas, tuple((path, type(v) if _is_plain(path, v) else repr(v)) for path, v in leaves))
    if shape in _known:
        with suppress(Exception):  # the long way says what is wrong
            return _finish(_update_known(shape, [value for _, value in plain]), finish, finish_sets)
        del _known[shape]
    root = merge(composed)
    result = _finish(root, finish, finish_sets)
    nodes = [_find_node(root, path) for path, _ in plain]
    if all(isinstance(node, ValueNode) for node in nodes):
        _known[shape] = _Merged(root=root, nodes=nodes, values=[value for _, value in plain])
        while len(_known) > KEPT:
            _known.popitem(last=False)
    return result


def _walk_leaves(node: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Path and value of everything that is not a mapping, and of empty mappings."""
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from _walk_leaves(value, (*path, name))
    else:
        yield path, node


def _is_plain(path: Path, value: Any) -> bool:
    """True if another value of the same type would only change this one node; a `name` chooses a schema."""
    if isinstance(value, str):
        return "${" not in value and value != "???" and path[-1] != "name"
    return isinstance(value, int | float | Enum)


def _find_node(root: Any, path: Path) -> Any:
    node = root
    for name in path:
        node = node._get_node(name)
    return node


def _update_known(shape: Hashable, values: list[Any]) -> DictConfig:
    merged = _known[shape]
    _known.move_to_end(shape)
    for index, (old, new) in enumerate(zip(merged.values, values, strict=True)):
        if repr(old) != repr(new):
            merged.nodes[index]._set_value(new)
            merged.values[index] = new
    return merged.root


def _finish(root: DictConfig, finish: Callable[[DictConfig], Any], finish_sets: tuple[str, ...]) -> Any:
    """The result; afterwards the root is as it was."""
    content: Any = root.__dict__["_content"]
    before = [(key, content[key], content[key]._value()) for key in finish_sets]
    try:
        return finish(root)
    finally:
        for key, node, value in before:
            content[key] = node
            node._set_value(value)


def convert_stage_options(options: type, given: dict[str, Any], config: Any) -> Any | None:
    """Builds a stage's options without OmegaConf, where they only follow a typed config and a few plain values.

    Args:
        options: dataclass of the stage's options. A default `${a.b}` follows the config's `a.b`.
        given: what the graph gives.
        config: the typed config.

    Returns:
        The options; None where only OmegaConf can say what they are.
    """
    hints, values = _read_hints(options), {}
    if not given.keys() <= hints.keys():
        return None
    for field in fields(options):
        if field.name in given:
            value = given[field.name]
        elif isinstance(field.default, str) and field.default.startswith("${") and field.default.endswith("}"):
            value = _find_value(config, field.default[2:-1])
        elif field.default is MISSING or is_dataclass(field.default):
            return None
        else:
            value = field.default
        if not _has_type(value, hints[field.name]):
            return None
        values[field.name] = value
    with suppress(Exception):
        return options(**values)
    return None


@lru_cache(maxsize=256)
def _read_hints(options: type) -> dict[str, Any]:
    return get_type_hints(options)


def _find_value(config: Any, key: str) -> Any:
    """The value at a dotted key; MISSING, which has no type that fits, where there is none."""
    for name in key.split("."):
        if not is_dataclass(config) or not hasattr(config, name):
            return MISSING
        config = getattr(config, name)
    return config


def _has_type(value: Any, hint: Any) -> bool:
    """True if a value already has this type: OmegaConf would neither convert, nor refuse, nor resolve it."""
    allowed = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if isinstance(value, str) and ("${" in value or value == "???"):
        return False
    if value is None:
        return NoneType in allowed
    types = [type_ for type_ in allowed if type_ is not NoneType]
    if len(types) != 1:
        return False
    if isinstance(value, int | float | str) and not isinstance(value, Enum):
        return type(value) is types[0]
    return (
        isinstance(types[0], type)
        and (is_dataclass(types[0]) or issubclass(types[0], Enum))
        and isinstance(value, types[0])
    )
