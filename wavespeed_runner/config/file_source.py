"""Reads config files for Hydra, those of a stranger among them: within their folder, and within bounds."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydraFileConfigSource
from hydra._internal.core_plugins.importlib_resources_config_source import (
    ImportlibResourcesConfigSource as HydraPackageConfigSource,
)
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf
from omegaconf._utils import get_yaml_loader

from ..errors import ConfigError
from ..inputs.files import InputError, read_text
from ..inputs.limits import MAX_CONFIG_BYTES
from ..inputs.yaml_documents import check_yaml, naming_yaml_file
from .paths import CONF
from .trust import PLAIN

ONLY_OPTIONS = "a defaults list may name options of config groups alone, as in 'override /cache: fbcache'"


# Hydra replaces a source for `file://` only by one of the same name.
class FileConfigSource(HydraFileConfigSource):
    """Hydra's source of config files, which would open any file that a defaults list names, and follow any alias."""

    def is_config(self, config_path: str) -> bool:
        """Whether the folder has this config. ConfigError: the path leads out of it."""
        _refuse_outside(config_path)
        return super().is_config(config_path)

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
        file = Path(self.path, self._normalize_file_name(config_path))
        place = Path(os.path.realpath(file))
        if not place.is_relative_to(os.path.realpath(self.path)):
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
        result = super().load_config(config_path)
        _refuse_paths_in_defaults(file, result.config)
        return result


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
        raise ConfigError(f"{config_path}: it leads out of the folder of the configs; {ONLY_OPTIONS}")


def _is_outside(path: str) -> bool:
    """True for a path that may lead out of a folder, on any system: absolute, with a drive, with a parent folder."""
    return path.startswith(("/", "~")) or any(c in path for c in "\\:\0") or ".." in path.split("/")


def _refuse_paths_in_defaults(file: Path, config: Any) -> None:
    """Refuses a defaults list with a path, Hydra's own node as a place, or anything that is only known later."""
    for entry, group, place, options in _list_defaults(file, config):
        # A group may begin with one slash: it is then no group inside of the file's own.
        paths = [group.removeprefix("/"), *options]
        calls = any("$" in PLAIN.sub("", text) for text in paths) or "$" in place
        if calls or any(_is_outside(path) for path in paths) or "hydra" in re.split(r"[.:\[\]'\"]", place):
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
        for name, value in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            group, _, place = str(name).partition("@")
            options = value if isinstance(value, list) else [value]
            yield entry, group.split(" ")[-1], place, [str(option) for option in options if option is not None]


def register_file_source() -> None:
    """Makes Hydra read every config by the sources above."""
    types = SourcesRegistry.instance().types
    types["file"], types["pkg"] = FileConfigSource, ImportlibResourcesConfigSource
