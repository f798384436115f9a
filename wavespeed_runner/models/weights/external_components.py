"""Parts that a pipeline's repository leaves to another one, such as a gated language model: `Family.elsewhere`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...config.schema import ModelConfig
from ...errors import ConfigError, RunError
from ..family import Family
from . import checkpoint
from .hub import cache_only, explained, quiet, refuse_missing


def inspect_elsewhere(family: Family, model: ModelConfig) -> None:
    """Accepts hub ids and sound local folders of one model, as transformers saves it. Loads nothing.

    Raises:
        ConfigError: nothing is there, only pickles are, or a file is cut off.
    """
    for key in family.elsewhere:
        repo = getattr(model, key)
        folder = None if repo is None else checkpoint.local(repo)
        if folder is None:
            continue
        where = f"model.{key}={repo}"
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{where}: no config.json there; a hub id or a folder of transformers is needed")
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise ConfigError(f"{where}: no .safetensors file there; {checkpoint.CONVERT}")
        for file in weights:
            if wrong := checkpoint.flaw(file):
                raise ConfigError(f"{where}: {file.name} is damaged: {wrong}; download or copy it again")


def parts_from_elsewhere(family: Family, model: ModelConfig, dtype: Any) -> dict[str, Any]:
    """Component -> model or tokenizer, of those whose key names a repository.

    Raises:
        ConfigError: the key names a folder that holds no model, or pickles.
        RunError: it cannot be had, or weights are missing; the message names the key.
    """
    inspect_elsewhere(family, model)
    found: dict[str, Any] = {}
    for key, parts in family.elsewhere.items():
        repo = getattr(model, key)
        if repo is not None:
            found |= _parts(repo, f"model.{key}", parts, dtype)
    return found


def _parts(repo: str, key: str, parts: dict[str, str], dtype: Any) -> dict[str, Any]:
    import transformers

    folder = checkpoint.local(repo)
    found: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    with explained(repo, key=key), quiet():
        commit = None if folder else checkpoint.first_commit(repo)
        options: dict[str, Any] = {"local_files_only": cache_only(repo, folder)} | (
            {"revision": commit} if commit else {}
        )
        for name, kind in parts.items():
            load = getattr(transformers, kind).from_pretrained
            if name.startswith("tokenizer"):
                found[name] = load(str(folder or repo), **options)
                continue
            weights = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
            found[name], info = load(str(folder or repo), **weights, **options)
            missing[name] = sorted(info["missing_keys"])
    refuse_missing(missing, f"{key}={repo}")
    return found


def refuse_absent(family: Family, folder: Path, given: dict[str, Any], where: str) -> None:
    """Raises a `RunError` when parts are looked for in a folder that leaves them to another repository.

    given: components that are loaded already. where: `key=value` of the folder.
    """
    for key, parts in family.elsewhere.items():
        absent = [part for part in parts if part not in given and not (folder / part).is_dir()]
        if absent:
            raise RunError(
                f"{where}: it has no {', '.join(absent)}, which come from a repository of their own; "
                f"leave model.{key} at its default, or name that repository or folder there"
            )
