"""Finds the option of the config group `graph` that a run's graph came from, so that a file needs one line for it."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from ..config.paths import CONF
from ..inputs.yaml_documents import parse_yaml
from ..records.override_yaml import merge
from .document import FlatConfig, flatten

GROUP = "graph"


def find_graph(wanted: dict[str, Any]) -> str | None:
    """The shipped option that gives most of a graph; None where none fits.

    Args:
        wanted: the graph of a run's resolved config.
    """
    target = flatten(wanted)
    # An experiment file cannot take away a stage, or an input of one.
    fitting = {name: graph for name, graph in _read_options().items() if _wiring(graph) <= _wiring(target)}

    def count(name: str) -> int:
        graph = fitting[name]
        return sum(graph[key] == target[key] for key in (*_wiring(graph), "output"))

    return max(fitting, key=count, default=None)


def _wiring(graph: FlatConfig) -> set[str]:
    return {key for key in graph if key.endswith(".stage") or ".inputs." in key}


@lru_cache(maxsize=1)
def _read_options() -> dict[str, FlatConfig]:
    """Each shipped graph, as it would be composed."""
    return {file.stem: flatten(_read(file.stem)) for file in sorted((CONF / GROUP).glob("*.yaml"))}


def _read(name: str) -> dict[str, Any]:
    content = parse_yaml((CONF / GROUP / f"{name}.yaml").read_text(encoding="utf-8"))
    graph: dict[str, Any] = {}
    for base in content.pop("defaults", ()):
        if base != "_self_":
            merge(graph, _read(base))
    merge(graph, {"output": "decode", **content} if not graph else content)
    return graph
