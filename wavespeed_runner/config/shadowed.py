"""Finds config files that are never read, because another one of their name is found first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ..errors import ConfigError
from ..inputs.files import InputError, read_file
from ..inputs.limits import MAX_CONFIG_BYTES
from .paths import CONF


def refuse_shadowed(chosen: Mapping[str, Any], sources: Sequence[Any]) -> None:
    """Refuses a config whose name a file of the user's has too, found later and with another content.

    Hydra takes the first file of a name, so what stands in the other would have no effect. Options that this command
    does not read may have any name, and a copy of what is read does no harm.

    Args:
        chosen: config group -> option or options, of the whole config.
        sources: Hydra's, in the order in which they are searched.

    Raises:
        ConfigError: names the file.
    """
    for path in walk_read(chosen, sources):
        read, *others = find_sources(path, sources)
        for file in (_find_file(other, path) for other in others):
            if file.is_file() and not _is_copy(file, _find_file(read, path)):
                raise ConfigError(_describe(path, file, _find_file(read, path)))


def _describe(path: str, file: Path, read: Path) -> str:
    group, _, option = path.rpartition("/")
    if not group:
        return (
            f"{file}: the shipped {path}.yaml is found first, so it would never be read; make it an experiment: move "
            f"it to {file.parent / 'experiment'}, begin it with '# @package _global_', and choose experiment=NAME"
        )
    owner = "the shipped option" if read.is_relative_to(CONF) else f"another option, {read},"
    return (
        f"{group}={option}: {owner} has this name and is found first, so {file} would never be read; give the file "
        f"another name, and choose {group}=NAME"
    )


def walk_read(chosen: Mapping[str, Any], sources: Sequence[Any]) -> Iterator[str]:
    """`cache/fbcache` for each config that is read: what is chosen, and what that starts from."""
    groups = [(group.partition("@")[0].lstrip("/"), option) for group, option in chosen.items()]
    paths = [f"{group}/{one}" for group, option in groups for one in (option if isinstance(option, list) else [option])]
    todo, seen = ["config", *paths], set()
    while todo:
        path = todo.pop(0)
        if path not in seen and (found := find_sources(path, sources)):
            seen.add(path)
            yield path
            todo += _list_bases(found[0], path)


def find_sources(path: str, sources: Sequence[Any]) -> list[Any]:
    """The sources that have a config, the one that is read first."""
    return [source for source in sources if source.scheme() in ("file", "pkg") and source.is_config(path)]


def _list_bases(source: Any, path: str) -> list[str]:
    """The configs that a file's defaults list begins with, as `balanced` does with `deepcache`; groups are chosen."""
    config = source.load_config(path).config
    content: Any = OmegaConf.to_container(config, resolve=False)
    defaults = content.get("defaults") if isinstance(content, dict) else None
    bases = [entry.partition("@")[0] for entry in defaults or () if isinstance(entry, str) and entry != "_self_"]
    group = path.rpartition("/")[0]
    return [base.lstrip("/") if base.startswith("/") or not group else f"{group}/{base}" for base in bases]


def _find_file(source: Any, path: str) -> Path:
    """Where a source has a config; of a package, where its files lie."""
    folder = Path(source.path)
    if source.scheme() == "pkg":
        from importlib.resources import files

        package, _, inner = source.path.partition("/")
        folder = Path(str(files(package))) / inner
    return folder / f"{path}.yaml"


def _is_copy(file: Path, read: Path) -> bool:
    try:
        return read_file(file, MAX_CONFIG_BYTES) == read_file(read, MAX_CONFIG_BYTES)
    except (OSError, InputError):
        return False
