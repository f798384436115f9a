"""Components that a repository leaves to another one, such as a gated text encoder: `Family.external_components`."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.schema import ModelConfig
from ...errors import ConfigError, RunError
from ..family import Family
from .checkpoint import CONVERT_PICKLES, find_local_path, inspect_component_weights
from .folder_gate import check_component
from .folder_models import refuse_unplaced_keys
from .hub import (
    count_weight_bytes,
    explain_loading_errors,
    fetch_configurations,
    must_use_cache,
    quiet_loading,
    refuse_missing_weights,
)
from .identity import find_downloaded_commit
from .safetensors_file import find_damage, list_weight_files
from .scales import read_headers
from .tokenizer_bounds import bound_tokenizers
from .trial import Candidate, refuse_unbuildable

if TYPE_CHECKING:
    import torch


def inspect_external_components(family: Family, model: ModelConfig) -> None:
    """Accepts hub ids, and local transformers folders whose files are complete. Loads nothing.

    Raises:
        ConfigError: nothing is there, only pickles are there, or a file is cut off.
    """
    for key in family.external_components:
        repo = getattr(model, key)
        folder = None if repo is None else find_local_path(repo)
        if folder is None:
            continue
        where = f"model.{key}={repo}"
        if not (folder / "config.json").is_file():
            raise ConfigError(f"{where}: it has no config.json; give a hub id or a folder saved by transformers")
        check_component(where, folder)
        weights = sorted(folder.glob("*.safetensors"))
        if not weights:
            raise ConfigError(f"{where}: it has no .safetensors file; {CONVERT_PICKLES}")
        for file in weights:
            if damage := find_damage(file):
                raise ConfigError(f"{where}: {file.name} is damaged: {damage}; download or copy it again")
        inspect_component_weights(where, folder, None)


def load_external_components(
    family: Family, model: ModelConfig, dtype: torch.dtype, without: Collection[str] = ()
) -> dict[str, Any]:
    """Component -> model or tokenizer, for every key of the family that names a repository, except those in `without`.

    Raises:
        ConfigError: the key names a folder that holds no model, or only pickles, or one that asks for code.
        RunError: the repository cannot be loaded or lacks weights; the message names the key.
    """
    inspect_external_components(family, model)
    components: dict[str, Any] = {}
    for key, classes in family.external_components.items():
        repo = getattr(model, key)
        if repo is not None:
            wanted = {name: class_name for name, class_name in classes.items() if name not in without}
            components |= _load_components(repo, f"model.{key}", wanted, dtype)
    return components


def _load_components(repo: str, key: str, classes: dict[str, str], dtype: torch.dtype) -> dict[str, Any]:
    """classes: component -> its class in transformers. key: names `repo`, for messages."""
    import transformers

    folder = find_local_path(repo)
    components: dict[str, Any] = {}
    missing: dict[str, list[str]] = {}
    with explain_loading_errors(repo, key=key), quiet_loading():
        commit = None if folder else find_downloaded_commit(repo)
        configs, size = folder, None
        if configs is None:
            configs = fetch_configurations(repo, commit)
            check_component(f"{key}={repo}", configs)
            size = count_weight_bytes(repo, commit, configs)
        candidates = [
            Candidate(name=name, library="transformers", class_name=class_name, folder=configs, weight_bytes=size)
            for name, class_name in classes.items()
        ]
        refuse_unbuildable(f"{key}={repo}", candidates)
        options: dict[str, Any] = {"local_files_only": must_use_cache(repo, folder), "trust_remote_code": False}
        if commit:
            options["revision"] = commit
        for name, class_name in classes.items():
            load = getattr(transformers, class_name).from_pretrained
            if name.startswith("tokenizer"):
                components[name] = load(str(folder or repo), **options)
                continue
            weights = {"dtype": dtype, "use_safetensors": True, "output_loading_info": True}
            components[name], info = load(str(folder or repo), **weights, **options)
            missing[name] = sorted(info["missing_keys"])
            held, _ = read_headers(list_weight_files(configs, None))  # a hub's are beside its configurations now
            inspect_component_weights(f"{key}={repo}", configs, None)
            refuse_unplaced_keys(f"{key}={repo}", name, components[name], info["unexpected_keys"], held)
    bound_tokenizers(f"{key}={repo}", components)
    refuse_missing_weights(missing, f"{key}={repo}")
    return components


def refuse_absent_components(family: Family, folder: Path, loaded: dict[str, Any], where: str) -> None:
    """Raises `RunError` if a component is to be read from a folder that leaves it to another repository.

    loaded: components that are loaded already. where: `key=value` of the folder, for the message.
    """
    for key, classes in family.external_components.items():
        absent = [name for name in classes if name not in loaded and not (folder / name).is_dir()]
        if absent:
            raise RunError(
                f"{where}: it has no {', '.join(absent)}, which come from a repository of their own; "
                f"leave model.{key} at its default, or set it to that repository or folder"
            )
