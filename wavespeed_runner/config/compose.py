"""Composes configs with Hydra: our schemas, our and the plugins' YAML, and one job's config from its overrides.

Every job is composed here once before Hydra's own main sees it: to check it (`trust.py`), plan it and explain errors.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from .. import registry
from ..errors import ConfigError, format_error, refuse_undecodable
from ..inputs.files import find_place
from . import fast, trust
from .error_messages import EXPLAINED
from .exact_ranges import make_ranges_exact
from .fast.compose import CONFIG_NAME as CONFIG_NAME
from .fast.compose import parse_override as parse_override
from .file_source import register_file_source
from .mistyped_words import explain_value_as_option
from .named_files import locate_files
from .open_schema import OpenConfig, OpenGraph, OpenPrompts
from .paths import CONF, list_groups
from .schema import NAMED_NODES
from .shadowed import refuse_shadowed
from .wanted import refuse_wanted

VERSION_BASE = "1.3"

PLAIN_RESERVED = re.compile(r"(outputs|dry_run|rerun|prompts\.path|limits\.\w+)=")
"""Overrides that only the command line may give, and that choose no file."""
_config_dir: list[str] = []
"""The folder given with `--config-dir`, while something composes."""


class PluginConfigs(SearchPathPlugin):
    """Appends the installed plugins' `conf/` folders, and `--config-dir`, to ours: they add options, never shadow."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Called by Hydra with the search path to extend."""
        # Hydra searches its structured configs, our schemas among them, last; no folder may shadow those either.
        search_path.append("schema", "structured://")
        for package in registry.load_all():
            search_path.append("wavespeed_runner plugin", f"pkg://{package}.conf")
        for folder in _config_dir:
            search_path.append("command-line", f"file://{find_place(folder)}")


def register_with_hydra() -> None:
    """Makes our schemas and the plugins' configs known to Hydra, here and in its main."""
    schemas = tuple((e.group, e.name, e.options) for e in registry.list_entries() if e.group != "stage")
    _store_schemas(ConfigStore.instance(), schemas)
    Plugins.instance().register(PluginConfigs)
    make_ranges_exact()
    register_file_source()


@lru_cache(maxsize=1)
def _store_schemas(store: ConfigStore, schemas: tuple[tuple[str, str, type], ...]) -> None:
    # Remembered: turning all these classes into nodes takes a tenth of a second.
    _compose_baseline.cache_clear()
    base = OmegaConf.structured(OpenConfig)
    base.graph, base.prompts = OmegaConf.structured(OpenGraph), OmegaConf.structured(OpenPrompts)
    store.store(name="base_config", node=base)
    for group, name, options in schemas:
        store.store(group=f"schema/{group}", name=name, node=options)


@contextmanager
def search_path(config_dir: str | None, *more: str) -> Iterator[None]:
    """Within it Hydra finds our configs, the plugins', those of the user's folder `config_dir`, and of others after it.

    Raises:
        ConfigError: there is no such folder, or its name is not UTF-8.
    """
    if config_dir is not None and not Path(config_dir).is_dir():
        raise ConfigError(f"--config-dir={config_dir}: no such folder")
    refuse_undecodable(f"--config-dir={config_dir}", config_dir or "")
    register_with_hydra()
    _config_dir[:] = [*([config_dir] if config_dir is not None else []), *more]
    try:
        with fast.compose.spare_hydra_repetition():
            yield
    finally:
        _config_dir.clear()


@contextmanager
def composer(config_dir: str | None, *more: str) -> Iterator[None]:
    """Within it the functions below can compose; `config_dir` adds a folder of the user's, `more` others after it."""
    with search_path(config_dir, *more):
        try:
            with initialize_config_dir(config_dir=str(CONF), job_name="wavespeed_runner", version_base=VERSION_BASE):
                yield
        finally:
            fast.compose.clear()


def compose_job(overrides: list[str], typed_here: list[str]) -> dict[str, Any]:
    """Composes and checks one job's config.

    Args:
        overrides: the job's overrides.
        typed_here: those of them that were on the command line; the others came from a file.

    Returns:
        The application's part: plain data, interpolations unresolved.
    """
    return drop_hydra_keys(compose_whole(overrides, typed_here))


def compose_whole(overrides: list[str], typed_here: list[str]) -> dict[str, Any]:
    """`compose_job` with Hydra's node and `points`. Shared with other jobs: do not change it.

    What a file wants to be given has the default's value, if there is one: `refuse_wanted` before it is planned.
    """
    for override in overrides:
        _refuse_name(override)
    return compose_checked(overrides, typed_here)


def drop_hydra_keys(composed: dict[str, Any]) -> dict[str, Any]:
    """A copy of a whole composed config without Hydra's node, and without what makes the jobs of a sweep.

    Of Hydra's node stays what the cache option was chosen as: a preset or a user's file has the name of its strategy.
    """
    config = deepcopy({key: value for key, value in composed.items() if key not in ("hydra", "points")})
    chosen, cache = composed.get("hydra", {}).get("runtime", {}).get("choices", {}).get("cache"), config.get("cache")
    if isinstance(cache, dict) and isinstance(chosen, str) and chosen != cache.get("name"):
        cache["chosen_as"] = chosen
    return config


def find_key(override: str) -> str:
    """The key or group that an override sets, adds or removes."""
    return override.lstrip("+~").partition("=")[0].strip()


def _refuse_name(override: str) -> None:
    """Refuses `cache.name=...`: the name would meet the keys of another option. A wrong name is reported later."""
    parse_override(override)
    key, _, name = override.lstrip("+").partition("=")
    path, _, last = key.rpartition(".")
    group = path.replace(".", "/")
    if last == "name" and path in NAMED_NODES and name in registry.list_names(group):
        raise ConfigError(
            f"{override}: an option of the group is chosen as a whole, with its keys: {group}=OPTION, then "
            f"{path}.KEY=VALUE"
        )


def compose_checked(overrides: list[str], typed_here: list[str]) -> dict[str, Any]:
    """The config of these overrides, after the checks of `trust`. typed_here: those of the command line itself."""
    composed = compose_unchecked(overrides)
    repository = fast.compose.find_repository(overrides)
    if _config_dir or composed["hydra"].get("searchpath"):
        refuse_shadowed(composed["hydra"]["runtime"]["choices"], repository.get_sources())
    # Places belong to options that the baseline does not choose; `check_files` knows which of them were typed.
    reserved = [o for o in typed_here if trust.is_reserved(o) and not trust.is_place(find_key(o))]
    baseline = _find_baseline(reserved)
    trust.check(composed, baseline, overrides, repository.group_exists)
    return locate_files(composed, typed_here, _config_dir)


def compose_unchecked(overrides: list[str]) -> dict[str, Any]:
    """The config of these overrides as Hydra composes it: nothing of it may be acted on yet."""
    try:
        with _hidden_environment(), warnings.catch_warnings():
            warnings.filterwarnings("error", message="provider=hydra.searchpath")  # a folder that does not exist
            return fast.compose.compose_config(overrides)
    except EXPLAINED:
        raise
    except RecursionError:
        raise ConfigError(f"{' '.join(overrides)}: a config file includes or refers to itself without end") from None
    except Exception as error:
        # What Hydra does not expect: a group set to null, a file that is not text, defaults that are not a list.
        text = format_error(error)
        if "Config group override must be" in text:  # `compile=true`, which Hydra reads as a value
            text = "an option of a config group is a name, and true, null and numbers are none"
            if told := explain_value_as_option(overrides):
                raise ConfigError(told) from None
        if "Unexpected type for root: NoneType" in text and (part := next(filter(_sets_part, overrides), None)):
            group = find_key(part).partition(".")[0]
            raise ConfigError(f"{part}: the chosen option of {group} has no such part; choose another first") from None
        raise ConfigError(f"{' '.join(overrides)}: cannot be composed: {text}") from None


def _sets_part(override: str) -> bool:
    """True for a key of a part of an option, such as `cache.criterion.threshold=0.1`."""
    group = find_key(override).rpartition(".")[0].replace(".", "/")
    return "/" in group and group in list_groups()


@contextmanager
def _hidden_environment() -> Iterator[None]:
    """Makes `oc.env` raise while Hydra composes: `- cache: ${oc.env:TOKEN}` would end up in `.hydra/hydra.yaml`."""

    def refuse(name: str, default: str = "") -> str:
        raise ConfigError(f"${{oc.env:{name}}}: a defaults list may not read the environment")

    OmegaConf.register_new_resolver("oc.env", refuse, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def _find_baseline(reserved: list[str]) -> dict[str, Any]:
    """What the command line alone makes of Hydra's node: the same for every job of a sweep."""
    if not fast.is_enabled() or not all(PLAIN_RESERVED.match(override) for override in reserved):
        return compose_unchecked(reserved)  # these may choose files of the user's, which may change
    folders = tuple(str(find_place(folder)) for folder in _config_dir)
    return _compose_baseline(tuple(reserved), (*folders, os.getcwd()), registry.load_all())


@lru_cache(maxsize=16)
def _compose_baseline(reserved: tuple[str, ...], folders: tuple[str, ...], plugins: tuple[str, ...]) -> dict[str, Any]:
    """The baseline of plain values, made of shipped files alone. Hydra's node names the folders and the plugins."""
    return deepcopy(compose_unchecked(list(reserved)))


def check_shown(overrides: list[str], *, resolve: bool) -> None:
    """Checks the config that Hydra is to print; `resolve`: with its values in place of interpolations.

    Raises:
        ConfigError: a file set what only the command line may, or values are put together to an interpolation.
        omegaconf.errors.OmegaConfBaseException: an interpolation names nothing.
    """
    config = drop_hydra_keys(refuse_wanted(compose_whole(overrides, overrides), overrides))
    if resolve:
        resolved: Any = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
        trust.check_resolved(resolved)


def list_options(group: str) -> list[str]:
    """Option names of a config group, wherever they come from. Only inside `composer`."""
    return sorted(GlobalHydra.instance().config_loader().get_group_options(group))
