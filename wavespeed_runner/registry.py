"""The registry: what a `name:` in YAML selects.

A config never holds code. `name: fbcache` in group `cache` selects the entry that was registered under that group and
name, by us or by an installed plugin. An entry holds a dataclass of typed options and, if there is one, their
implementation (a function or a table of functions). Nothing here imports torch; implementations import it inside their
functions.
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
"""Entry-point group. An entry names a package: importing it registers what it adds, and its `conf/` adds configs."""

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One registered option."""

    group: str
    name: str
    options: type
    """A kw_only dataclass: the option's typed keys."""
    implementation: Any = None


_entries: dict[tuple[str, str], Entry] = {}
_judging: set[str] = set()
"""Packages of plugins that register judges (`metric`) and nothing else."""


def register(group: str, name: str, options: type) -> Callable[[T], T]:
    """Makes a decorator that registers an implementation with its options.

    Raises:
        ValueError: another entry has that name. Registering the very same entry again is allowed.
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
    """Looks up an entry.

    Args:
        group: config group, such as `cache/criterion`.
        name: registered name.
        key: the config key that held the name, for the message.

    Raises:
        ConfigError: no such entry; names the nearest ones.
    """
    load_all()
    where = key or f"{group}.name"
    if not isinstance(name, str):  # a file that somebody else wrote may hold anything
        raise ConfigError(f"{where}={name}: a name is needed{did_you_mean(str(name), list_names(group))}")
    if (group, name) not in _entries:
        raise ConfigError(f"{where}={name}: nothing of that name is registered{did_you_mean(name, list_names(group))}")
    return _entries[group, name]


def list_names(group: str) -> list[str]:
    """Names of all entries of a group, sorted."""
    load_all()
    return sorted(name for g, name in _entries if g == group)


def list_entries() -> list[Entry]:
    """All entries of all groups."""
    load_all()
    return list(_entries.values())


def find_implementation(group: str, options: Any) -> Any:
    """Finds the implementation of an options object by its `name`; None for options that need none."""
    return lookup(group, options.name).implementation


@lru_cache(maxsize=1)
def load_all() -> tuple[str, ...]:
    """Imports every module that registers something; returns the plugins' packages, sorted by the plugins' names."""
    for module in ("models.families", "samplers", "caching", "accelerate", "stages", "judges"):
        import_module(f"wavespeed_runner.{module}")
    plugins = sorted(entry_points(group=PLUGIN_GROUP), key=lambda e: e.name)
    for plugin in plugins:
        known = set(_entries)
        try:
            plugin.load()
        except Exception as error:
            raise ConfigError(f"plugin '{plugin.name}' ({plugin.value}) cannot be imported: {error}") from error
        if {group for group, _ in _entries.keys() - known} == {"metric"}:
            _judging.add(plugin.value.partition(":")[0])
    return tuple(plugin.value.partition(":")[0] for plugin in plugins)


def only_judges(package: str) -> bool:
    """Whether a plugin does nothing but judge images that are made: it cannot change one."""
    load_all()
    return package in _judging
