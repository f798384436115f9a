"""Hydra's composition, made once for all jobs that differ in values alone.

Composing reads some thirty files and takes a tenth of a second; setting a value takes none. So overrides are split:
what decides which files are read, or adds and takes away keys, goes to Hydra's `compose`; the plain `key=value` behind
it are applied, by the function that Hydra itself applies them with, to a copy of what they change. Wherever that could
come out differently, or goes wrong, Hydra composes the whole: its answer and its error are the ones that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra import compose
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import split_key

CONFIG_NAME = "config"


class _Otherwise(Exception):
    """This override does not simply set a value."""


@dataclass(frozen=True, kw_only=True)
class _Base:
    """What Hydra made of the structural overrides."""

    config: DictConfig
    data: dict[str, Any]
    """The same as plain data, unresolved. Shared by all jobs: never changed."""


@lru_cache(maxsize=16384)
def parse_override(override: str) -> Override:
    """One override by Hydra's grammar. Its parser is written in Python and takes a millisecond.

    Raises:
        hydra.errors.OverrideParseException: it is none.
    """
    return OverridesParser.create().parse_overrides([override])[0]


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """The whole config with Hydra's node, plain data with interpolations unresolved: what `hydra.compose` gives.

    To be called while Hydra is initialized; `forget` afterwards. The result shares parts with others: never change it.
    """
    structural, values = _split(list(overrides))
    if values:
        with suppress(Exception):
            return _with_values(_base(tuple(structural)), overrides, [parse_override(override) for override in values])
    return _base(tuple(overrides)).data


def clear() -> None:
    """Hydra was initialized with other folders, or files may have changed."""
    _base.cache_clear()
    _repository.cache_clear()


@lru_cache(maxsize=64)
def _base(overrides: tuple[str, ...]) -> _Base:
    config = compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
    data: Any = OmegaConf.to_container(config, resolve=False)
    return _Base(config=config, data=data)


def _split(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Structural ones, and the plain values that Hydra would apply after all of those.

    An override of a group may stand anywhere: Hydra chooses files first. Any other that is not plain is applied in its
    place, and then the values before it belong to the structure too.
    """
    kinds = _kinds(overrides)
    last = max((i for i, kind in enumerate(kinds) if kind == "other"), default=-1)
    structural = [o for i, o in enumerate(overrides) if i <= last or kinds[i] != "value"]
    return structural, [o for i, o in enumerate(overrides) if i > last and kinds[i] == "value"]


def _kinds(overrides: list[str]) -> list[str]:
    """`value`, `group` (also: of Hydra's node alone) or `other` of each."""
    try:
        sorts = [parse_override(override) for override in overrides]
        folders = tuple(o for o, sort in zip(overrides, sorts, strict=True) if sort.key_or_group == "hydra.searchpath")
        return [_kind(sort, _repository(folders)) for sort in sorts]
    except Exception:  # what is wrong is for Hydra to say
        return ["other"] * len(overrides)


def _kind(override: Override, repository: Any) -> str:
    plain = override.type is OverrideType.CHANGE and not override.is_sweep_override()
    if override.is_hydra_override():
        return "group" if plain else "other"
    if repository.group_exists(override.key_or_group):
        return "other" if isinstance(override.value(), dict) else "group"
    return "value" if plain and override.package is None else "other"


@lru_cache(maxsize=16)
def _repository(folders: tuple[str, ...]) -> Any:
    """Where Hydra looks for groups, with the folders that the command line adds."""
    loader: Any = GlobalHydra.instance().config_loader()
    _, repository = loader._parse_overrides_and_create_caching_repo(CONFIG_NAME, list(folders))
    repository.group_exists = lru_cache(repository.group_exists)
    return repository


def _with_values(base: _Base, overrides: Sequence[str], values: list[Override]) -> dict[str, Any]:
    """The base's data with these values set.

    Raises:
        _Otherwise: one of them reaches a place through an interpolation, or there is none.
        whatever Hydra raises for a wrong value.
    """
    # The nodes at the top that are changed are exchanged for copies, and put back: copying all of it takes longer.
    content: Any = base.config.__dict__["_content"]
    tops = {split_key(value.key_or_group)[0] for value in values}
    if not tops <= content.keys():
        raise _Otherwise
    before = {top: content[top] for top in tops}
    try:
        content.update({top: deepcopy(node) for top, node in before.items()})
        for value in values:
            _refuse_detour(base.config, value)
            ConfigLoaderImpl._apply_overrides_to_config([value], base.config)
        changed = {top: _plain(content[top]) for top in tops}
    finally:
        content.update(before)
    return {**base.data, **changed, "hydra": _hydra_node(base, overrides)}


def _refuse_detour(config: DictConfig, override: Override) -> None:
    """Setting `a.b` where `a` is `${c}` would change `c`."""
    node: Any = config
    *above, last = split_key(override.key_or_group)
    for name in above:
        node = node._get_node(name) if isinstance(node, DictConfig) else None
        if node is None or not isinstance(node, DictConfig) or node._is_interpolation() or node._is_none():
            raise _Otherwise
    target = node._get_node(last)
    if isinstance(override.value(), dict | list) and target is not None and target._is_interpolation():
        raise _Otherwise


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node._value()


def _hydra_node(base: _Base, overrides: Sequence[str]) -> dict[str, Any]:
    """Hydra's node, which lists what was overridden."""
    node, parts = base.data["hydra"], [parse_override(override) for override in overrides]
    task = [part for part in parts if not part.is_hydra_override()]
    dirname = node["job"]["config"]["override_dirname"]
    name = get_overrides_dirname(task, dirname["exclude_keys"], dirname["item_sep"], dirname["kv_sep"])
    return {
        **node,
        "overrides": {**node["overrides"], "task": [part.input_line for part in task]},
        "job": {**node["job"], "override_dirname": name},
    }
