"""LoRA: loaded, weighed and fused by diffusers and PEFT.

Added here: a file of which a part finds no place in the model is an error; diffusers only logs it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ..errors import RunError, one_line
from ..models.weights import checkpoint
from .adapter_options import Lora, as_list, fetch_file, values_per_path


def load_lora(pipe: Any, adapters: Lora) -> None:
    """Puts the updates into the pipeline's modules.

    Raises:
        RunError: a file is not for this model.
    """
    paths, components = as_list(adapters.path), values_per_path(adapters, "component")
    names = [f"lora_{index}" for index, _ in enumerate(paths)]
    for name, path, file, component in zip(names, paths, values_per_path(adapters, "file"), components, strict=True):
        options = {"load_into_transformer_2": True} if component == "transformer_2" else {}
        found = fetch_file(path, file or "pytorch_lora_weights.safetensors")
        try:
            with warnings.catch_warnings():  # PEFT's own bookkeeping, for every LoRA but the first
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                pipe.load_lora_weights(str(found), adapter_name=name, use_safetensors=True, **options)
        except Exception as error:
            raise RunError(f"adapters.path={path}: does not fit this model: {one_line(error)}") from error
        _check_all_placed(pipe, name, path, found)
    pipe.set_adapters(names, _read_weights(adapters))
    if adapters.fuse:
        pipe.fuse_lora(
            components=[part for part, n in _layers(pipe).items() if n], adapter_names=names, safe_fusing=True
        )
        pipe.unload_lora_weights()


def _read_weights(adapters: Lora) -> list[float]:
    return [float(weight) for weight in values_per_path(adapters, "weight")]


def _check_all_placed(pipe: Any, name: str, path: str, file: Path) -> None:
    """diffusers only logs what it has no place for. A file may be converted to more tensors, never to fewer."""
    placed = sum(f".{name}." in key for part in _modules(pipe).values() for key, _ in part.named_parameters())
    wanted = len([key for key in checkpoint.tensor_names(file) if not _needs_no_place(key)])
    if placed < wanted:
        raise RunError(
            f"adapters.path={path}: does not fit this model: {wanted - placed} of its {wanted} tensors found no place"
        )


def _needs_no_place(key: str) -> bool:
    """Scales, which are multiplied in; and changes of norms in files for Wan, which diffusers leaves out."""
    return key.endswith((".alpha", ".dora_scale")) or ("norm" in key and key.endswith((".diff", ".diff_b")))


def _modules(pipe: Any) -> dict[str, Any]:
    import torch

    return {name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)}


def _layers(pipe: Any) -> dict[str, int]:
    """Component -> layers in it that carry a LoRA."""
    found = {name: sum(hasattr(m, "lora_A") for m in part.modules()) for name, part in _modules(pipe).items()}
    return {name: count for name, count in found.items() if count}


def collect_evidence(pipe: Any, adapters: Lora) -> dict[str, Any]:
    """How strongly they act, and how many layers of each component carry them."""
    return {"lora": _read_weights(adapters), "fused": adapters.fuse, "layers": _layers(pipe)}
