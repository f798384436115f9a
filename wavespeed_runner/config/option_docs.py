"""Reads the texts after a class's attributes, which Python does not keep: what each key of an option means."""

from __future__ import annotations

import ast
import inspect
from dataclasses import is_dataclass
from functools import lru_cache
from itertools import pairwise
from types import ModuleType
from typing import Any


def read_attribute_docs(options: type) -> dict[str, str]:
    """The text after each attribute of a dataclass, its bases' too: attribute -> one line."""
    docs: dict[str, str] = {}
    for base in reversed(options.__mro__):
        if is_dataclass(base):
            docs |= _read_docs_of_class(base)
    return docs


def read_constant_docs(module: ModuleType) -> dict[str, str]:
    """The text after each constant of a module: name -> one line."""
    return _collect(_parse(module).body)


@lru_cache(maxsize=64)
def _parse(source: Any) -> ast.Module:
    return ast.parse(inspect.getsource(source))


def _read_docs_of_class(options: type) -> dict[str, str]:
    module = inspect.getmodule(options)
    nodes = ast.walk(_parse(module)) if module is not None else ()
    found = (node for node in nodes if isinstance(node, ast.ClassDef) and node.name == options.__name__)
    return next((_collect(node.body) for node in found), {})  # none for a class that was made from a table


def _collect(body: list[ast.stmt]) -> dict[str, str]:
    docs = {}
    for statement, after in pairwise(body):
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str):
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            name = getattr(targets[0], "id", None)
            if name:
                docs[name] = " ".join(after.value.value.split())
    return docs
