"""Reads a checkpoint that is one .safetensors file: a denoiser alone, or several components in the original layout."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any

from ..config import ModelConfig
from ..errors import RunError
from .family import Family
from .loading import cache_only, explained, quiet, refuse_missing

CONFIGURATIONS = (".json", ".txt", ".model")


def parts_of(family: Family, model: ModelConfig, path: Path, components: str, source: str, dtype: Any) -> Any:
    """Component -> module, of all that the file holds.

    components: what completes the file, as the user named it. source: the same, as diffusers opens it; says how the
    modules are shaped.

    Raises:
        RunError: the file holds no denoiser, or a part of it is incomplete or cannot be read.
    """
    offline = False
    with explained(components, key="model.components"):
        offline = cache_only(components, Path(source) if Path(source).is_dir() else None)
    names: list[str] = []
    with explained(model.repo):
        names = _names(path)
    held = {part for part, begins in family.single_file.items() if any(name.startswith(begins) for name in names)}
    if not held or held == {family.denoiser}:
        return {family.denoiser: _denoiser(family, model, path, components, source, offline, dtype)}
    if family.denoiser not in held:
        raise RunError(f"model.repo={model.repo}: it holds {', '.join(sorted(held))} and no {family.denoiser}")
    with TemporaryDirectory() as folder:
        with explained(components, key="model.components"):
            _copy_configurations(source, offline, folder)
        pipe = _several(family, model, path, held, folder, dtype)
    predicts = pipe.scheduler.config.get("prediction_type")
    if "v_pred" in names and predicts != "v_prediction":  # an empty tensor with which fine-tunes mark themselves
        raise RunError(
            f"model.repo={model.repo}: it predicts velocity, but the scheduler of model.components={components} takes "
            f"{predicts}; give a diffusers folder whose scheduler has prediction_type v_prediction"
        )
    parts = {name: getattr(pipe, name) for name in sorted(held)}
    missing = {name: [key for key, weight in part.named_parameters() if weight.is_meta] for name, part in parts.items()}
    refuse_missing(missing, f"model.repo={model.repo}")
    return parts


def _names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _denoiser(
    family: Family, model: ModelConfig, path: Path, components: str, source: str, offline: bool, dtype: Any
) -> Any:
    """The denoiser from a file that holds nothing else, in diffusers' or in the original layout."""
    import diffusers

    options = {"subfolder": family.denoiser, "local_files_only": offline}
    with explained(components, key="model.components"):
        index: dict[str, Any] = diffusers.DiffusionPipeline.load_config(source, local_files_only=offline)
        kind = getattr(diffusers, index[family.denoiser][1])
        kind.load_config(source, **options)
    with explained(model.repo), quiet():
        return kind.from_single_file(str(path), config=source, dtype=dtype, **options)


def _copy_configurations(source: str, offline: bool, folder: str) -> None:
    """All but the weights: diffusers would take those that the file lacks from beside the configurations, and say
    nothing."""
    from huggingface_hub import snapshot_download

    if not Path(source).is_dir():
        patterns = [f"*{ending}" for ending in CONFIGURATIONS]
        source = snapshot_download(source, allow_patterns=patterns, local_files_only=offline)

    def others(parent: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(parent, name).is_file() and not name.endswith(CONFIGURATIONS)]

    copytree(source, folder, ignore=others, dirs_exist_ok=True)


def _several(family: Family, model: ModelConfig, path: Path, held: set[str], folder: str, dtype: Any) -> Any:
    """A pipeline of the components that the file holds. Fine-tunes change text encoders and VAE too."""
    import diffusers

    kind = getattr(diffusers, next(iter(family.tasks.values())))
    absent = dict.fromkeys(family.single_file.keys() - held)
    options: dict[str, Any] = {**family.options, **absent, "config": folder, "local_files_only": True}
    with explained(model.repo), quiet():
        return kind.from_single_file(str(path), dtype=dtype, **options)
