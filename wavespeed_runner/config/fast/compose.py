"""Composes with Hydra once for all jobs that differ in plain values alone.

Composing takes a tenth of a second, setting a value takes none. So overrides are split: those that choose files, or add
or remove keys, go to Hydra's `compose`; the plain `key=value` after them are set in a copy, by the function that Hydra
itself uses. Where the result could differ, or something fails, Hydra composes everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hydra import compose
from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from omegaconf import DictConfig, OmegaConf, base
from omegaconf._utils import split_key

from ...errors import ConfigError, refuse_undecodable
from . import is_enabled
from .merging import compose_from_defaults, parse_interpolation, replace_attribute
from .nesting import refuse_depth
from .shipped import load_shipped_once
from .wanted import note_wanted

CONFIG_NAME = "config"


class _NotPlainError(Exception):
    """This override does more than set one value."""


@dataclass(frozen=True, kw_only=True)
class _Base:
    """What Hydra made of the structural overrides."""

    config: DictConfig
    data: dict[str, Any]
    """The same as plain data, unresolved. Shared by all jobs, so nobody may change it."""
    wanted: dict[str, str]
    """Dotted key -> the file that wants it to be given, for what no other file gives."""


@lru_cache(maxsize=16384)
def parse_override(override: str) -> Override:
    """Parses one override by Hydra's grammar; remembered, because the parser takes a millisecond.

    Raises:
        hydra.errors.OverrideParseException: it is not an override.
        ConfigError: a number in it has too many digits, it is nested too deep, or not valid Unicode.
    """
    refuse_undecodable(override, override)
    refuse_depth(override)
    try:
        return OverridesParser.create().parse_overrides([override])[0]
    except ValueError as error:  # Python converts no number of thousands of digits
        raise ConfigError(f"{override}: {error}".partition("; use sys.")[0]) from None


def compose_config(overrides: Sequence[str]) -> dict[str, Any]:
    """Composes the whole config with Hydra's node: plain data, interpolations unresolved, as `hydra.compose` gives it.

    Call it while Hydra is initialized, and `clear` afterwards. Results share parts with each other: do not change them.
    """
    structural, values = _split_overrides(list(overrides)) if is_enabled() else ([], [])
    if values:
        with suppress(Exception):
            return _set_values(
                _compose_base(tuple(structural)), overrides, [parse_override(override) for override in values]
            )
    return _compose_base(tuple(overrides)).data


@contextmanager
def spare_hydra_repetition() -> Iterator[None]:
    """Within it Hydra neither copies all schemas nor parses shipped files each time it composes: half of the time.

    `CachingConfigRepository` deep-copies its sources, and with them the process's one `ConfigStore`. The store itself
    hands out copies (`ConfigStore.load`), as the sources here do, so nothing that is composed can change either. And a
    config of all choices is made for each defaults list, which only one with interpolations looks at. `merging` has the
    rest.
    """
    create_map = defaults_list._create_interpolation_map
    replaced: list[tuple[Any, str, Any]] = [
        (ConfigStore, "__deepcopy__", lambda self, memo: self),
        (ConfigLoaderImpl, "_compose_config_from_defaults_list", compose_from_defaults),
        (base, "parse", parse_interpolation),
        (
            defaults_list,
            "_create_interpolation_map",
            lambda overrides, defaults, self_added: (
                create_map(overrides, defaults, self_added) if any("${" in str(vars(d)) for d in defaults) else None
            ),
        ),
    ]
    # The registered classes: Hydra imports its plugins again when it looks for them, which makes others of those names.
    for source in (SourcesRegistry.instance().types[scheme] for scheme in ("file", "pkg")):
        replaced.append((source, "load_config", load_shipped_once(source.load_config)))
    with ExitStack() as stack:
        for owner, name, function in replaced if is_enabled() else ():
            stack.enter_context(replace_attribute(owner, name, function))
        yield


def find_wanted(overrides: Sequence[str]) -> dict[str, str]:
    """Dotted key -> the file that wants it to be given (`???`), of a config that has been composed."""
    structural = _split_overrides(list(overrides))[0] if is_enabled() else overrides
    return _compose_base(tuple(structural)).wanted


def clear() -> None:
    """Forgets what was composed: Hydra was initialized with other folders, or files may have changed."""
    _compose_base.cache_clear()
    _build_repository.cache_clear()


@lru_cache(maxsize=64)
def _compose_base(overrides: tuple[str, ...]) -> _Base:
    with note_wanted() as wanted:
        config = compose(CONFIG_NAME, overrides=list(overrides), return_hydra_config=True)
    data: Any = OmegaConf.to_container(config, resolve=False)
    return _Base(config=config, data=data, wanted=wanted)


def _split_overrides(overrides: list[str]) -> tuple[list[str], list[str]]:
    """Splits into structural overrides, and the plain values that Hydra would set after all of those.

    A group override may stand anywhere, because Hydra chooses files first. Any other structural one is applied where it
    stands; the values before it then count as structure too.
    """
    kinds = _classify_overrides(overrides)
    last = max((i for i, kind in enumerate(kinds) if kind == "other"), default=-1)
    structural = [o for i, o in enumerate(overrides) if i <= last or kinds[i] != "value"]
    return structural, [o for i, o in enumerate(overrides) if i > last and kinds[i] == "value"]


def _classify_overrides(overrides: list[str]) -> list[str]:
    """Says of each whether it is a `value`, a `group` (or a value of Hydra's node), or something `other`."""
    try:
        parsed = [parse_override(override) for override in overrides]
        repository = _build_repository(_list_search_paths(overrides))
        return [_classify_override(override, repository) for override in parsed]
    except Exception:  # Hydra will say what is wrong
        return ["other"] * len(overrides)


def find_repository(overrides: Sequence[str]) -> Any:
    """Hydra's repository of configs for a command line with these overrides: which groups there are, from where."""
    return _build_repository(_list_search_paths(overrides))


def _list_search_paths(overrides: Sequence[str]) -> tuple[str, ...]:
    return tuple(o for o in overrides if o.lstrip("+~").partition("=")[0].strip() == "hydra.searchpath")


def _classify_override(override: Override, repository: Any) -> str:
    plain = override.type is OverrideType.CHANGE and not override.is_sweep_override()
    if override.is_hydra_override():
        return "group" if plain else "other"
    if repository.group_exists(override.key_or_group):
        return "other" if isinstance(override.value(), dict) else "group"
    return "value" if plain and override.package is None else "other"


@lru_cache(maxsize=16)
def _build_repository(folders: tuple[str, ...]) -> Any:
    """Where Hydra looks for groups, with the folders that the command line adds."""
    loader: Any = GlobalHydra.instance().config_loader()
    _, repository = loader._parse_overrides_and_create_caching_repo(CONFIG_NAME, list(folders))
    repository.group_exists = lru_cache(repository.group_exists)
    return repository


def _set_values(base: _Base, overrides: Sequence[str], values: list[Override]) -> dict[str, Any]:
    """The base's data with these values set.

    Raises:
        _NotPlainError: a value is reached through an interpolation, or its place does not exist.
        Exception: whatever Hydra raises for a wrong value.
    """
    # Replace the changed top-level nodes by copies and put them back afterwards; copying everything takes longer.
    content: Any = base.config.__dict__["_content"]
    tops = {split_key(value.key_or_group)[0] for value in values}
    if not tops <= content.keys():
        raise _NotPlainError
    before = {top: content[top] for top in tops}
    try:
        content.update({top: deepcopy(node) for top, node in before.items()})
        for value in values:
            _refuse_interpolated_place(base.config, value)
            ConfigLoaderImpl._apply_overrides_to_config([value], base.config)
        changed = {top: _to_plain_data(content[top]) for top in tops}
    finally:
        content.update(before)
    return {**base.data, **changed, "hydra": _update_hydra_node(base, overrides)}


def _refuse_interpolated_place(config: DictConfig, override: Override) -> None:
    """Raises where a node on the way is an interpolation: setting `a.b` where `a` is `${c}` would change `c`."""
    node: Any = config
    *above, last = split_key(override.key_or_group)
    for name in above:
        node = node._get_node(name) if isinstance(node, DictConfig) else None
        if node is None or not isinstance(node, DictConfig) or node._is_interpolation() or node._is_none():
            raise _NotPlainError
    target = node._get_node(last)
    if isinstance(override.value(), dict | list) and target is not None and target._is_interpolation():
        raise _NotPlainError


def _to_plain_data(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node._value()


def _update_hydra_node(base: _Base, overrides: Sequence[str]) -> dict[str, Any]:
    """Hydra's own node, which lists what was overridden."""
    node, parsed = base.data["hydra"], [parse_override(override) for override in overrides]
    task = [override for override in parsed if not override.is_hydra_override()]
    dirname = node["job"]["config"]["override_dirname"]
    name = get_overrides_dirname(task, dirname["exclude_keys"], dirname["item_sep"], dirname["kv_sep"])
    return {
        **node,
        "overrides": {**node["overrides"], "task": [override.input_line for override in task]},
        "job": {**node["job"], "override_dirname": name},
    }
