"""A Python script that is being written: its imports, its lines, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..config.schema import Config
from ..models.family import Family
from ..planning.graph import Graph

WIDTH = 110
"""Of a line of a script."""


@dataclass(kw_only=True)
class Script:
    """What the parts of a setting add to a script."""

    config: Config
    family: Family
    graph: Graph
    imports: set[tuple[str, str]] = field(default_factory=set)
    """(module, name); the name is empty for `import MODULE`."""
    lines: list[str] = field(default_factory=list)
    """What prepares the pipeline, in order."""
    notes: list[str] = field(default_factory=list)
    """What a reader has to know."""
    refused: list[str] = field(default_factory=list)
    """What plain diffusers cannot express; with one of these there is no script."""

    def use(self, name: str, module: str = "diffusers") -> str:
        """Imports a name; returns it."""
        self.imports.add((module, name))
        return name

    def format_imports(self) -> list[str]:
        """The lines of the imports, sorted."""
        plain = sorted(f"import {module}" for module, name in self.imports if not name)
        named: dict[str, list[str]] = {}
        for module, name in sorted(self.imports):
            if name:
                named.setdefault(module, []).append(name)
        return [*plain, *(f"from {module} import {', '.join(names)}" for module, names in sorted(named.items()))]


def format_call(name: str, /, *positional: str, **named: str) -> list[str]:
    """The lines of a call: one where it fits, else one an argument. Arguments are code already."""
    parts = [*positional, *(f"{key}={value}" for key, value in named.items())]
    text = f"{name}({', '.join(parts)})"
    return [text] if len(text) <= WIDTH else [f"{name}(", *(f"    {part}," for part in parts), ")"]


def indent(lines: Iterable[str]) -> list[str]:
    """The lines inside of a block."""
    return [f"    {line}" for line in lines]


def to_code(values: Mapping[str, Any]) -> dict[str, str]:
    """Values as Python code."""
    return {name: repr(value) for name, value in values.items()}
