"""Recognises models that are stored quantized: folders whose configurations say so, and GGUF files. No torch.

They are loaded as they are, by diffusers: https://huggingface.co/docs/diffusers/quantization/overview.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...config.schema import Dtype, Init, ModelConfig
from ...errors import ConfigError
from ..family import Family
from .checkpoint import find_local_path
from .folder_gate import list_components, read_config
from .safetensors_file import count_loaded_bytes, list_weight_files
from .scales import read_headers, refuse_plain

PACKAGES = {"torchao": "torchao", "bitsandbytes": "bitsandbytes", "gguf": "gguf", "quanto": "optimum.quanto"}
"""Method of quantization -> the module that loads it. Other methods are refused: nobody has tried them here."""


def find_quantized(model: ModelConfig, family: Family) -> dict[str, str]:
    """Component -> method, for each component of a local model that is stored quantized; empty for hub ids."""
    path = find_local_path(model.repo) if model.init is Init.pretrained else None
    if path is None or not path.exists():
        return {}
    if path.suffix.lower() == ".gguf":
        return {family.denoiser: "gguf"}
    return read_methods(f"model.repo={model.repo}", path) if (path / "model_index.json").is_file() else {}


def read_methods(where: str, folder: Path) -> dict[str, str]:
    """Component -> method, for each component of a diffusers folder that is stored quantized."""
    methods = {}
    for name in list_components(where, folder):
        file = folder / name / "config.json"
        config = read_config(where, file).get("quantization_config") if file.is_file() else None
        if config:
            methods[name] = read_method(config)
    return methods


def count_stored_bytes(model: ModelConfig, family: Family) -> dict[str, int]:
    """Component -> bytes of its weights once loaded, for each component of a local model that is stored quantized."""
    path, element_size = find_local_path(model.repo), 4 if model.dtype is Dtype.float32 else 2
    sizes = {}
    for name in find_quantized(model, family):
        assert path is not None
        files = list_weight_files(path / name, model.weights)
        sizes[name] = (
            path.stat().st_size if path.is_file() else sum(count_loaded_bytes(file, element_size) for file in files)
        )
    return sizes


def read_method(config: Any) -> str:
    """What a `quantization_config` calls its method; `bitsandbytes` for those of its older releases."""
    if not isinstance(config, dict):
        return "unknown"
    if config.get("load_in_4bit") or config.get("load_in_8bit"):
        return "bitsandbytes"
    method = config.get("quant_method", "unknown")
    return str(getattr(method, "value", method))[:40]


def refuse_unloadable(model: ModelConfig, family: Family) -> None:
    """Refuses a quantized model that this installation cannot load, or that is not quantized in its files.

    Raises:
        ConfigError: names the component, its method, and what to install.
    """
    path = find_local_path(model.repo)
    for name, method in find_quantized(model, family).items():
        where = f"model.repo={model.repo}: {name} is quantized with {method}"
        if method not in PACKAGES:
            raise ConfigError(
                f"{where}, which is not supported; supported: {', '.join(PACKAGES)}; or use the original checkpoint "
                "and quant=int8_wo"
            )
        package = PACKAGES[method]
        if not _is_installed(package):
            name_to_install = package.replace(".", "-")
            raise ConfigError(
                f"{where}, and the package {name_to_install} is missing: pip install {name_to_install}; or use the "
                "original checkpoint and quant=int8_wo"
            )
        if path is not None and path.is_dir():
            tensors = read_headers(list_weight_files(path / name, model.weights))[0]
            refuse_plain(f"model.repo={model.repo}: '{name}'", tensors)


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package around it is missing
        return False
