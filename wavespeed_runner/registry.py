"""What a `name:` in YAML can mean.

A config never holds code. `name: fbcache` in group `cache` selects an entry that was registered under that group and
name, by us or by an installed plugin. An entry is a dataclass with the typed options and, where there is one, the
thing that implements it (a function, a table of functions). Nothing here imports torch: implementations import it
inside their functions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, TypeVar

from .errors import ConfigError, did_you_mean

PLUGIN_GROUP = "wavespeed_runner.plugins"
"""Entry-point group. An entry names a package: importing it registers what it adds; its `conf/` joins the configs."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One registered option."""

    group: str
    name: str
    options: type
    """kw_only dataclass: the option's typed keys."""
    implementation: Any = None


_entries: dict[tuple[str, str], Entry] = {}


def register(group: str, name: str, options: type) -> Callable[[T], T]:
    """Decorator: registers an implementation with its options.

    Raises:
        ValueError: the name is taken by another entry. The very same one may come again.
    """

    def add(implementation: T) -> T:
        there = _entries.get((group, name))
        if there and (there.options is not options or there.implementation is not implementation):
            raise ValueError(f"{group}={name} is registered twice, with {_full(there.options)} and {_full(options)}")
        _entries[group, name] = Entry(group=group, name=name, options=options, implementation=implementation)
        return implementation

    return add


def _full(options: type) -> str:
    return f"{options.__module__}.{options.__qualname__}"


def lookup(group: str, name: str, key: str | None = None) -> Entry:
    """The entry, or a `ConfigError` that names the near ones, and `key`, where the name stood."""
    load_all()
    if (group, name) not in _entries:
        where = key or f"{group}.name"
        raise ConfigError(f"{where}={name}: nothing of that name is registered{did_you_mean(name, list_names(group))}")
    return _entries[group, name]


def list_names(group: str) -> list[str]:
    load_all()
    return sorted(name for g, name in _entries if g == group)


def list_entries() -> list[Entry]:
    load_all()
    return list(_entries.values())


def find_implementation(group: str, options: Any) -> Any:
    """What implements this options object, by its `name`."""
    return lookup(group, options.name).implementation


@lru_cache(maxsize=1)
def load_all() -> tuple[str, ...]:
    """Imports every module that registers something; returns the plugin packages, in the order of their names."""
    for module in ("models.families", "samplers", "caching", "accelerate", "stages"):
        import_module(f"wavespeed_runner.{module}")
    plugins = sorted(entry_points(group=PLUGIN_GROUP), key=lambda e: e.name)
    for plugin in plugins:
        try:
            plugin.load()
        except Exception as error:
            raise ConfigError(f"plugin '{plugin.name}' ({plugin.value}) cannot be imported: {error}") from error
    return tuple(plugin.value.partition(":")[0] for plugin in plugins)
