"""Loads the pipeline of a family: from a diffusers folder, the hub or a single file, or built with random weights."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...config.schema import Init, ModelConfig
from ...process.torchao_import import import_torchao
from ..family import Family
from .checkpoint import find_local_path, inspect_checkpoint, is_single_file
from .external_components import load_external_components, refuse_absent_components
from .file_flags import find_flags, set_flags
from .folder_gate import check_folder, list_components
from .folder_models import load_models
from .hub import (
    explain_loading_errors,
    fetch_configurations,
    get_diffusers_class,
    quiet_loading,
    refuse_missing_weights,
)
from .identity import find_cached_commit, find_downloaded_commit
from .own_vae import load_vae
from .quantized import read_methods
from .random_init import use_ready_modules
from .scheduler_shift import set_shift
from .single_file import load_single_file
from .tokenizer_bounds import bound_tokenizers
from .trial import Candidate, is_trusted, refuse_unbuildable

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn


def load(
    family: Family, model: ModelConfig, device: str, ready: dict[str, nn.Module] | None = None
) -> DiffusionPipeline:
    """Loads the pipeline of the family's first task in `model.dtype`. Leaves the global random state unchanged.

    `init=tiny` is built on the CPU, for the same numbers on every machine; `init=random` on the device that will run
    it. Components that are `ready` are neither read nor built.

    Raises:
        RunError: it cannot be loaded or contradicts the configuration; the message says what to do.
        ConfigError: `model.repo` names nothing that may be loaded.
    """
    import torch

    dtype = getattr(torch, model.dtype.value)
    with torch.random.fork_rng(devices=[]), use_ready_modules(ready or {}):
        if model.init is Init.pretrained:
            pipe = _load_pretrained(family, model, dtype, ready or {})
            flags = find_flags(family, model)
            if flags.settings:
                pipe.scheduler = set_flags(pipe.scheduler, flags, f"model.repo={model.repo}")
        else:
            pipe = family.build(model, dtype, "cpu" if model.init is Init.tiny else device)
    if (shift := getattr(model, "shift", None)) is not None:
        pipe.scheduler = set_shift(pipe.scheduler, shift)
    if family.check:
        family.check(model, pipe)
    return pipe


def find_component_source(family: Family, model: ModelConfig) -> str | None:
    """The repository of the components that a single-file checkpoint may lack; None for other models."""
    path = find_local_path(model.repo)
    if not is_single_file(path):
        return None
    return model.components or (family.published_repo(model) if family.published_repo else model.repo)


def list_unloaded_components(family: Family) -> list[str]:
    """Components that repositories of the family may name and that are never loaded."""
    return [name for name, value in family.pipeline_options.items() if value is None]


def try_local_folder(family: Family, model: ModelConfig) -> None:
    """Builds the components of a local diffusers folder on trial; of other models they are when these are loaded.

    Raises:
        ConfigError: a component cannot be built within bounds.
    """
    path = find_local_path(model.repo)
    where = f"model.repo={model.repo}"
    if model.init is not Init.pretrained or path is None or not path.is_dir() or is_trusted(where):
        return
    external = [name for key, classes in family.external_components.items() if getattr(model, key) for name in classes]
    with explain_loading_errors(model.repo):
        refuse_unbuildable(where, list_candidates(where, path, without=[*family.pipeline_options, *external]))


def _load_pretrained(
    family: Family, model: ModelConfig, dtype: torch.dtype, ready: dict[str, nn.Module]
) -> DiffusionPipeline:
    inspect_checkpoint(model.repo, model.revision, without=list_unloaded_components(family), weights=model.weights)
    path = find_local_path(model.repo)
    if path is not None and path.is_file():
        return _complete_single_file(family, model, path, dtype, ready)
    # Store keys name the commit, so a branch stays at the commit that was downloaded first.
    commit = None if path else find_cached_commit(model.repo, model.revision or "main")
    if model.vae is not None and "vae" not in ready:
        where, revision = f"model.repo={model.repo}", commit or model.revision
        with explain_loading_errors(model.repo, model.revision):
            configs = path or fetch_configurations(model.repo, revision)
            check_folder(where, configs)
        ready = {**ready, "vae": load_vae(family, model.vae, where, configs, dtype, model.weights)}
    components = {**load_external_components(family, model, dtype, without=ready), **ready}
    revision = commit or model.revision
    return _load_folder(family, model, str(path or model.repo), model.repo, revision, dtype, **components)


def _load_folder(
    family: Family,
    model: ModelConfig,
    source: str,
    value: str,
    revision: str | None,
    dtype: torch.dtype,
    key: str = "model.repo",
    **components: Any,
) -> DiffusionPipeline:
    """The pipeline with every component from one folder or repository, except `components`, which are loaded already.

    source: what diffusers opens. key and value: how the user named it, for messages.
    """
    import torch

    components = {**family.pipeline_options, **components}
    pipeline_class = get_diffusers_class(next(iter(family.tasks.values())))
    dtypes = {"default": dtype, **dict.fromkeys(family.float32_components, torch.float32)}
    where = f"{key}={value}"
    with explain_loading_errors(value, revision, key), quiet_loading():
        folder = source
        if not Path(source).is_dir():
            options = {"revision": revision, "variant": model.weights, "use_safetensors": True}
            folder = pipeline_class.download(source, **options, **components)
        check_folder(where, Path(folder))
        refuse_absent_components(family, Path(folder), components, where)
        refuse_unbuildable(where, list_candidates(where, Path(folder), without=components))
        if "torchao" in read_methods(where, Path(folder)).values():
            import_torchao()
        options = {"trust_remote_code": False, "use_safetensors": True, "variant": model.weights}
        candidates = list_candidates(where, Path(folder), without=components)
        components |= load_models(where, candidates, model.weights, dtypes)
        pipe = pipeline_class.from_pretrained(folder, dtype=dtypes, **options, **components)
        if not is_trusted(where):
            bound_tokenizers(where, pipe.components)
    modules = {name: module for name, module in pipe.components.items() if isinstance(module, torch.nn.Module)}
    empty = {name: [key for key, weight in m.named_parameters() if weight.is_meta] for name, m in modules.items()}
    refuse_missing_weights(empty, where)
    return pipe


def list_candidates(where: str, folder: Path, without: Collection[str]) -> list[Candidate]:
    """The components of a diffusers folder that are read from it; `without` are not."""
    return [
        Candidate(
            name=name,
            library=library,
            class_name=class_name,
            folder=folder / name if (folder / name).is_dir() else folder,
        )
        for name, (library, class_name) in list_components(where, folder).items()
        if name not in without
    ]


def _complete_single_file(
    family: Family, model: ModelConfig, path: Path, dtype: torch.dtype, ready: dict[str, nn.Module]
) -> DiffusionPipeline:
    """The components that a single file holds, in diffusers' or the original layout, and the rest from elsewhere."""
    repo = find_component_source(family, model) or model.repo
    inspect_checkpoint(repo, key="model.components", without=list_unloaded_components(family))
    folder = find_local_path(repo)
    with explain_loading_errors(repo, key="model.components"):
        configs = folder or fetch_configurations(repo, find_downloaded_commit(repo))
        where = f"model.components={repo}"
        check_folder(where, configs)  # its index decides what is imported
        others = list_components(where, configs).keys() - {family.denoiser, *family.single_file_prefixes}
        candidates = list_candidates(where, configs, without=[*others, *ready])
        refuse_unbuildable(where, [replace(each, weight_bytes=path.stat().st_size) for each in candidates])
    if model.vae is not None and "vae" not in ready:
        ready = {**ready, "vae": load_vae(family, model.vae, where, configs, dtype, model.weights)}
    components = load_single_file(family, model, path, repo, configs, dtype, ready)
    components |= load_external_components(family, model, dtype, without=ready)
    commit = None if folder else find_downloaded_commit(repo)
    return _load_folder(family, model, str(folder or repo), repo, commit, dtype, "model.components", **components)
