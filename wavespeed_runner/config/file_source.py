"""Reads config files for Hydra, those of a stranger among them: within their folder, and within bounds."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource as HydraFileConfigSource
from hydra._internal.sources_registry import SourcesRegistry
from hydra.plugins.config_source import ConfigResult
from omegaconf import OmegaConf

from ..errors import ConfigError
from ..inputs.documents import check_yaml
from ..inputs.files import InputError, read_text
from .paths import CONF


# Hydra replaces a source for `file://` only by one of the same name.
class FileConfigSource(HydraFileConfigSource):
    """Hydra's source of config files, which would open any file that a defaults list names, and follow any alias."""

    def load_config(self, config_path: str) -> ConfigResult:
        """Loads one file; shipped ones without the checks, which take longer than loading.

        Raises:
            ConfigError: it lies outside of the folder, is not a regular file, or too large, or its defaults list names
                such files.
        """
        if Path(self.path) == CONF:
            return super().load_config(config_path)
        file = Path(self.path, self._normalize_file_name(config_path))
        if not Path(os.path.realpath(file)).is_relative_to(os.path.realpath(self.path)):
            raise ConfigError(f"{file}: it leads out of {self.path}; configs may only use files in their own folder")
        try:
            check_yaml(read_text(file))
        except yaml.YAMLError:
            pass  # OmegaConf's reader says the same, with the name of the file
        except (OSError, InputError) as error:
            raise ConfigError(f"{file}: {error}") from None
        result = super().load_config(config_path)
        _refuse_paths_in_defaults(file, result.config)
        return result


def _refuse_paths_in_defaults(file: Path, config: Any) -> None:
    """Refuses a defaults list that names an absolute path, a parent folder, or Hydra's own node as a place."""
    defaults: Any = config._get_node("defaults") if OmegaConf.is_dict(config) else None
    entries: Any = OmegaConf.to_container(defaults, resolve=False) if OmegaConf.is_list(defaults) else ()
    for entry in entries:
        for name, value in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            group, _, place = str(name).split(" ")[-1].partition("@")
            options = value if isinstance(value, list) else [value]
            # A group may begin with one slash: it is then no group inside of the file's own.
            paths = [group.removeprefix("/"), *(str(option).partition("@")[0] for option in options)]
            if any(_is_outside(path) for path in paths) or place.split(".")[0] == "hydra":
                raise ConfigError(
                    f"{file}: defaults: {entry}: a defaults list may name options of config groups alone, as in "
                    "'override /cache: fbcache'"
                )


def _is_outside(path: str) -> bool:
    return path.startswith(("/", "\\", "~")) or ".." in re.split(r"[/\\]", path)


def register_file_source() -> None:
    """Makes Hydra read every config file through `FileConfigSource`."""
    SourcesRegistry.instance().types["file"] = FileConfigSource
