"""Reads a checkpoint that is one file: a denoiser alone, or several components in the original layout.

GGUF files hold a quantized denoiser, whose layers convert their weights back at each call:
https://huggingface.co/docs/diffusers/quantization/gguf.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ...config.schema import ModelConfig
from ...errors import RunError
from ..family import Family
from .hub import explain_loading_errors, get_diffusers_class, quiet_loading, refuse_missing_weights
from .random_init import list_float32_names

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline
    from torch import nn


def load_single_file(
    family: Family,
    model: ModelConfig,
    path: Path,
    repo: str,
    configs: Path,
    dtype: torch.dtype,
    ready: dict[str, nn.Module],
) -> dict[str, nn.Module]:
    """Component -> module, for every component that the file holds, and those that are ready.

    Args:
        family: its `single_file_prefixes` tell which components the file holds.
        model: its configuration.
        path: the file.
        repo: the repository that supplies the other components, as the user named it; for messages.
        configs: the folder of its configurations, after `check_folder`. They give the shapes of the modules, and the
            names of the classes that diffusers imports.
        dtype: of the modules.
        ready: components that are loaded already; they are not read from the file.

    Raises:
        RunError: the file holds no denoiser, a component of it is incomplete, or it cannot be read.
    """
    from diffusers import DiffusionPipeline

    options: dict[str, Any] = {"config": str(configs), "dtype": dtype, "local_files_only": True}
    index: dict[str, Any] = {}
    with explain_loading_errors(repo, key="model.components"):
        index = DiffusionPipeline.load_config(options["config"])
    names: list[str] = []
    with explain_loading_errors(model.repo):
        names = _read_names(path)
    prefixes = family.single_file_prefixes
    held = {component for component in prefixes if any(name.startswith(prefixes[component]) for name in names)}
    if not held or held == {family.denoiser}:
        if family.denoiser not in index:
            raise RunError(f"model.components={repo}: its model_index.json names no {family.denoiser}; give another")
        class_name = index[family.denoiser][1]
        if family.denoiser in ready:
            return ready
        return {**ready, family.denoiser: _load_denoiser(class_name, family.denoiser, model, path, repo, options)}
    if family.denoiser not in held:
        raise RunError(f"model.repo={model.repo}: it holds {', '.join(sorted(held))} and no {family.denoiser}")
    pipe = _load_several(family, model, path, held, {**options, **ready})
    modules = {**ready, **{name: getattr(pipe, name) for name in sorted(held)}}
    missing = {
        name: [key for key, weight in module.named_parameters() if weight.is_meta] for name, module in modules.items()
    }
    refuse_missing_weights(missing, f"model.repo={model.repo}")
    return modules


def _read_names(path: Path) -> list[str]:
    """Names of the tensors in a safetensors file, by the library, which also refuses damaged files.

    None of a GGUF file: it holds the denoiser alone, see `_load_gguf`.
    """
    from safetensors import safe_open

    if path.suffix.lower() == ".gguf":
        return []
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _load_denoiser(
    class_name: str, name: str, model: ModelConfig, path: Path, repo: str, options: dict[str, Any]
) -> nn.Module:
    """The denoiser from a file that holds nothing else, in diffusers' or the original layout."""
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    module_class = get_diffusers_class(class_name)
    if not hasattr(module_class, "from_single_file"):
        raise RunError(
            f"model.repo={model.repo}: diffusers reads no single file of a {class_name}; give a diffusers folder"
        )
    with explain_loading_errors(repo, key="model.components"):
        module_class.load_config(options["config"], subfolder=name)
    with explain_loading_errors(model.repo), quiet_loading():
        if path.suffix.lower() == ".gguf":
            return _load_gguf(module_class, name, model, path, options)
        if class_name not in SINGLE_FILE_LOADABLE_CLASSES:
            return _load_diffusers_layout(module_class, name, path, options)
        if not module_class._keep_in_fp32_modules:
            return module_class.from_single_file(str(path), subfolder=name, **options)
        module = module_class.from_single_file(str(path), subfolder=name, **{**options, "dtype": None})
        return _cast(module, options["dtype"])


def _load_gguf(module_class: Any, name: str, model: ModelConfig, path: Path, options: dict[str, Any]) -> nn.Module:
    """The denoiser from a GGUF file, as it is stored."""
    from diffusers import GGUFQuantizationConfig
    from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

    if module_class.__name__ not in SINGLE_FILE_LOADABLE_CLASSES:
        raise RunError(
            f"model.repo={model.repo}: diffusers reads no GGUF file of a {module_class.__name__}; give a diffusers "
            "folder, and quant=int8_wo for small weights"
        )
    quantization = GGUFQuantizationConfig(compute_dtype=options["dtype"])
    return module_class.from_single_file(str(path), subfolder=name, quantization_config=quantization, **options)


def _cast(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Casts the parameters in place, as loading from a folder does.

    `from_single_file` would also cast the modules that the model class keeps in float32.
    """
    import torch

    float32_names = list_float32_names(module, dtype)
    for name, parameter in module.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if float32_names.intersection(name.split(".")) else dtype)
    return module


def _load_diffusers_layout(module_class: Any, name: str, path: Path, options: dict[str, Any]) -> nn.Module:
    """The denoiser from a file in diffusers' layout, for classes whose original layout diffusers cannot convert."""
    config = module_class.load_config(options["config"], subfolder=name)
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(json.dumps(config), encoding="utf-8")
        Path(folder, "diffusion_pytorch_model.safetensors").symlink_to(path.resolve())
        return module_class.from_pretrained(folder, dtype=options["dtype"], use_safetensors=True)


def _load_several(
    family: Family, model: ModelConfig, path: Path, held: set[str], options: dict[str, Any]
) -> DiffusionPipeline:
    """A pipeline of the components that the file holds: fine-tunes change text encoders and VAE too."""
    pipeline_class = get_diffusers_class(next(iter(family.tasks.values())))
    absent = dict.fromkeys(family.single_file_prefixes.keys() - held)
    with explain_loading_errors(model.repo), quiet_loading():
        return pipeline_class.from_single_file(str(path), **{**family.pipeline_options, **absent, **options})
