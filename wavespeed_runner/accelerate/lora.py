"""LoRA: loads, weights and fuses low-rank adapters with diffusers and PEFT.

Added here: it is an error if any tensor in a file matches nothing in the model; diffusers only logs that.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import RunError, format_error
from ..models.weights.safetensors_file import read_tensor_names
from .adapter_file import find_hostile
from .adapter_options import Lora, as_list, fetch_file, values_per_path

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline


def load_lora(pipe: DiffusionPipeline, adapters: Lora) -> None:
    """Loads LoRA files into the pipeline's modules, sets their weights and fuses them if asked to.

    Raises:
        RunError: a file is not for this model.
    """
    paths, components = as_list(adapters.path), values_per_path(adapters, "component")
    names = [f"lora_{index}" for index, _ in enumerate(paths)]
    for name, path, file, component in zip(names, paths, values_per_path(adapters, "file"), components, strict=True):
        options = {"load_into_transformer_2": True} if component == "transformer_2" else {}
        local_file = fetch_file(path, file or "pytorch_lora_weights.safetensors")
        if flaw := find_hostile(local_file):
            raise RunError(f"adapters.path={path}: not a file that can be loaded: {flaw}; use another one")
        try:
            with warnings.catch_warnings():  # PEFT warns for every LoRA after the first
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                pipe.load_lora_weights(str(local_file), adapter_name=name, use_safetensors=True, **options)
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {format_error(error)}") from error
        _check_all_placed(pipe, name, path, local_file)
    pipe.set_adapters(names, _read_weights(adapters))
    if adapters.fuse:
        pipe.fuse_lora(components=list(_count_layers(pipe)), adapter_names=names, safe_fusing=True)
        pipe.unload_lora_weights()


def _read_weights(adapters: Lora) -> list[float]:
    return [float(weight) for weight in values_per_path(adapters, "weight")]


def _check_all_placed(pipe: DiffusionPipeline, name: str, path: str, file: Path) -> None:
    """Raises RunError unless every tensor of a file was loaded.

    diffusers may split a tensor into several when it converts a file, but never joins several to one.
    """
    placed = sum(f".{name}." in key for module in _list_modules(pipe).values() for key, _ in module.named_parameters())
    expected = len([key for key in read_tensor_names(file) if not _is_left_out(key)])
    if placed < expected:
        raise RunError(
            f"adapters.path={path}: does not fit this model: {expected - placed} of its {expected} tensors match "
            "nothing in the model"
        )


def _is_left_out(key: str) -> bool:
    """True for scales, which are multiplied in, and for changes of norms in Wan files, which diffusers leaves out."""
    return key.endswith((".alpha", ".dora_scale")) or ("norm" in key and key.endswith((".diff", ".diff_b")))


def _list_modules(pipe: DiffusionPipeline) -> dict[str, torch.nn.Module]:
    import torch

    return {name: module for name, module in pipe.components.items() if isinstance(module, torch.nn.Module)}


def _count_layers(pipe: DiffusionPipeline) -> dict[str, int]:
    """Component -> number of its layers that have a LoRA; only components with any."""
    counts = {name: sum(hasattr(m, "lora_A") for m in module.modules()) for name, module in _list_modules(pipe).items()}
    return {name: count for name, count in counts.items() if count}


def collect_evidence(pipe: DiffusionPipeline, adapters: Lora) -> dict[str, Any]:
    """Evidence for the record: the weights of the LoRAs, and how many layers of each component have them."""
    return {"lora": _read_weights(adapters), "fused": adapters.fuse, "layers": _count_layers(pipe)}
