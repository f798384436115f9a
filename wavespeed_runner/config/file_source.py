"""Reads config files for Hydra, those of a stranger among them: within their folder, and within bounds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from hydra._internal import config_loader_impl
from hydra._internal.config_repository import CachingConfigRepository as HydraRepository
from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydraFileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource as HydraPackageConfigSource,
)
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader
from omegaconf.errors import KeyValidationError

from ..errors import ConfigError, format_error
from ..inputs.files import InputError, find_place, is_within, read_text
from ..inputs.limits import MAX_CONFIG_BYTES, MAX_CONFIG_FILES
from ..inputs.yaml_documents import check_yaml, naming_yaml_file
from .error_messages import HYDRA_ALONE
from .interpolations import PLAIN
from .own_models import explain_own_model
from .paths import CONF
from .trust import is_reserved

MAX_QUOTED = 200
"""Characters of an error of OmegaConf, which may quote the whole value."""
ONLY_OPTIONS = "a defaults list may name options of config groups alone, as in 'override /cache: fbcache'"
ONLY_TYPED = "only the command line may choose what Hydra itself does; choose it there, as in hydra/launcher=slurm"


# Hydra replaces a source for `file://` only by one of the same name.
class FileConfigSource(HydraFileConfigSource):
    """Hydra's source of config files, which would open any file that a defaults list names, and follow any alias.

    A folder of the user's has no options for Hydra's own groups, nor for any other that only the command line may
    choose: Hydra would act on them as on its own, and nothing would tell them from what was typed.
    """

    def is_group(self, config_path: str) -> bool:
        """Whether the folder has this group."""
        return not self._is_hidden(config_path) and super().is_group(config_path)

    def is_config(self, config_path: str) -> bool:
        """Whether the folder has this config. ConfigError: the path leads out of it."""
        _refuse_outside(config_path)
        return not self._is_hidden(config_path) and super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        """Loads one file; shipped ones without the checks of their content, which take longer than loading.

        Raises:
            ConfigError: it lies outside of the folder, is not a regular file, or too large, or its defaults list names
                such files.
            yaml.YAMLError: it is not YAML.
        """
        _refuse_outside(config_path)
        if Path(self.path) == CONF:
            return super().load_config(config_path)
        if self._is_hidden(config_path):
            raise ConfigError(f"{config_path}: {HYDRA_ALONE}")
        file = Path(self.path, self._normalize_file_name(config_path))
        try:
            place, is_inside = find_place(file), is_within(file, [self.path])
        except (OSError, ValueError) as error:  # links in a circle
            raise ConfigError(f"{file}: {error}") from None
        if not is_inside:
            raise ConfigError(
                f"{file}: it leads out of {self.path}, to {place}; configs may only use files in their own folder; "
                "copy the file there, or give the folder that it is in with --config-dir"
            )
        try:
            with naming_yaml_file(file):
                # By OmegaConf's own reader, because two readers may see two different things.
                check_yaml(read_text(file, MAX_CONFIG_BYTES), loader=get_yaml_loader())
        except (OSError, InputError) as error:
            raise ConfigError(f"{file}: {error}") from None
        result = self._load(file, config_path)
        _refuse_hydra_node(file, result)
        _refuse_paths_in_defaults(file, result.config)
        return result

    def _load(self, file: Path, config_path: str) -> ConfigResult:
        """Loads by OmegaConf, whose errors do not say in which file."""
        try:
            return super().load_config(config_path)
        except (ConfigError, yaml.YAMLError, OSError):
            raise
        except Exception as error:  # a key that is null, a header of three words, half of an interpolation
            allowed = "; keys are names" if isinstance(error, KeyValidationError) else ""
            raise ConfigError(f"{file}: {format_error(error)[:MAX_QUOTED]}{allowed}") from None

    def _is_hidden(self, config_path: str) -> bool:
        """True for what a folder of the user's may not hold; on systems that ignore case, in any."""
        parts = [part for part in config_path.lower().split("/") if part not in ("", ".")]
        return Path(self.path) != CONF and bool(parts) and is_reserved(parts[0].removesuffix(".yaml"))


class ImportlibResourcesConfigSource(HydraPackageConfigSource):
    """Hydra's source of configs in installed packages, which would open any file that a defaults list names."""

    def is_config(self, config_path: str) -> bool:
        """Whether the package has this config. ConfigError: the path leads out of it."""
        _refuse_outside(config_path)
        return super().is_config(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        """Loads one file. ConfigError: it lies outside of the package."""
        _refuse_outside(config_path)
        return super().load_config(config_path)


def _refuse_outside(config_path: str) -> None:
    """Refuses the path of a config as Hydra has resolved it, when nothing can be put together any more."""
    if _is_outside(config_path):
        group, _, option = config_path.partition("/")
        if group == "model" and (told := explain_own_model(option)):
            raise ConfigError(f"model={option}: {told}")
        raise ConfigError(f"{config_path}: it leads out of the folder of the configs; {ONLY_OPTIONS}")


def _is_outside(path: str) -> bool:
    """True for a path that may lead out of a folder, on any system: absolute, with a drive, with a parent folder."""
    return path.startswith(("/", "~")) or any(c in path for c in "\\:\0") or ".." in path.split("/")


def _refuse_hydra_node(file: Path, result: ConfigResult) -> None:
    """Refuses a file that is put into Hydra's node by its header, or whose own node of it holds no keys."""
    header = result.header.get("package") or ""
    if _names_hydra(header):
        raise ConfigError(f"{file}: @package {header}: {HYDRA_ALONE}")
    node: Any = result.config._get_node("hydra") if OmegaConf.is_dict(result.config) else None
    if node is not None and (not OmegaConf.is_dict(node) or node._is_none() or node._is_interpolation()):
        raise ConfigError(f"{file}: hydra: keys and their values are needed, and a config may only set sweeper.params")


def _names_hydra(place: str) -> bool:
    return "hydra" in re.split(r"[.:/\[\]'\"]", place)


def _refuse_paths_in_defaults(file: Path, config: Any) -> None:
    """Refuses a defaults list with a path, Hydra's own node as a place, or anything that is only known later."""
    for entry, group, place, options in _list_defaults(file, config):
        # A group may begin with one slash: it is then no group inside of the file's own.
        paths = [group.removeprefix("/"), *options]
        calls = any("$" in PLAIN.sub("", text) for text in paths) or "$" in place
        # Hydra's groups too: it drops in silence what the command line's own defaults choose for them.
        of_hydra = _names_hydra(place) or _names_hydra(group.removeprefix("/").partition("/")[0])
        if of_hydra:
            raise ConfigError(f"{file}: defaults: {entry}: {ONLY_TYPED}")
        if calls or any(_is_outside(path) for path in paths):
            raise ConfigError(f"{file}: defaults: {entry}: {ONLY_OPTIONS}")


def _list_defaults(file: Path, config: Any) -> Iterator[tuple[Any, str, str, list[str]]]:
    """The entries of a defaults list, as written: with their group, their place and their options."""
    defaults: Any = config._get_node("defaults") if OmegaConf.is_dict(config) else None
    if defaults is None:
        return
    if not OmegaConf.is_list(defaults) or defaults._is_interpolation():
        raise ConfigError(f"{file}: defaults: a list is needed; {ONLY_OPTIONS}")
    entries: Any = OmegaConf.to_container(defaults, resolve=False)
    for entry in entries or ():
        named = list(entry.items()) if isinstance(entry, dict) else [(entry, None)]
        if not named:
            raise ConfigError(f"{file}: defaults: {entry}: {ONLY_OPTIONS}")
        for name, value in named:
            options = [option for option in (value if isinstance(value, list) else [value]) if option is not None]
            if not all(isinstance(text, str) for text in (name, *options)):
                raise ConfigError(f"{file}: defaults: {'null' if entry is None else entry}: {ONLY_OPTIONS}")
            group, _, place = name.partition("@")
            yield entry, group.split(" ")[-1], place, options


class _CountingRepository(HydraRepository):
    """Hydra's repository of one composition, which would load all that defaults lists multiply by naming each other."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Loads one file, or again what it has loaded. ConfigError: it is one of too many."""
        self.count = getattr(self, "count", 0) + 1
        if self.count > MAX_CONFIG_FILES:
            raise ConfigError(
                f"{config_path}: more than {MAX_CONFIG_FILES:,} files in one config: one that refers to itself, or "
                "defaults lists that name each other and multiply; leave some out"
            )
        result: ConfigResult | None = super().load_config(config_path)
        return result


def register_file_source() -> None:
    """Makes Hydra read every config by the sources above, and no more of them than a config may have."""
    config_loader_impl.CachingConfigRepository = _CountingRepository
    types = SourcesRegistry.instance().types
    types["file"], types["pkg"] = FileConfigSource, ImportlibResourcesConfigSource
