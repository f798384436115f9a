"""Loads the models of a diffusers folder one by one: each tensor has to have a place, and each weight to be there.

A pipeline could load them itself. But what the libraries leave out, or fill with random numbers, they only log; here
their reports are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import RunError, make_printable
from .empty_module import build_empty, list_stored_buffers
from .folder_gate import read_config
from .hub import refuse_missing_weights
from .safetensors_file import list_variant_files, list_weight_files
from .scales import find_scales, is_scaled, read_headers, refuse_other_numbers, refuse_plain
from .shards import refuse_unlisted
from .tensors import Stored, load_tensors
from .trial import Candidate, find_class

if TYPE_CHECKING:
    import torch
    from torch import nn

BASES = ("model", "language_model", "text_model")
"""What may stand before the names of a text encoder's weights, in some releases of transformers and not in others."""
HEADS = ("lm_head", "score", "classifier", "cls", "qa_outputs", "pooler", "mtp", "logit_scale", "logit_bias")
PROJECTIONS = ("text_projection", "visual_projection", "multi_modal_projector")
TOWERS = ("vision_model", "vision_tower", "visual", "audio_tower", "decoder")
BESIDE = (*HEADS, *PROJECTIONS, *TOWERS)
"""What published language models and CLIPs hold beside the encoder that a class takes of them: heads, projections, the
towers for images and sound, T5's decoder."""
OLDER = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""What diffusers renames as it loads files of older releases."""
TABLES = re.compile(r"(.*\.)?(position_ids|rotary_emb\.inv_freq)")
"""What a module computes, and older releases saved."""


def load_models(
    where: str, candidates: Iterable[Candidate], weights: str | None, dtypes: dict[str, torch.dtype]
) -> dict[str, nn.Module]:
    """Component -> model, for each that has weights in the folder.

    Args:
        where: `key=value` of the folder, for messages.
        candidates: its components, after `refuse_unbuildable`.
        weights: `model.weights`, the variant to load.
        dtypes: component -> number format; under `default` that of the others.

    Raises:
        RunError: a weight is missing, or a tensor has no place; the message names it.
        ConfigError: a weight is stored in a way that is not read.
    """
    import torch

    models = {}
    for candidate in candidates:
        name, model_class = candidate.name, find_class(candidate)  # an explanation of errors looks for `name`
        if issubclass(model_class, torch.nn.Module) and list(candidate.folder.glob("*.safetensors")):
            dtype = dtypes.get(name, dtypes["default"])
            models[name] = _load_model(where, name, model_class, candidate.folder, weights, dtype)
    return models


def _load_model(
    where: str, name: str, model_class: Any, folder: Path, weights: str | None, dtype: torch.dtype
) -> nn.Module:
    from transformers import PreTrainedModel

    config = read_config(where, folder / "config.json")
    refuse_unlisted(where, folder, weights)  # a folder of the hub was not inspected
    files = list_weight_files(folder, weights)
    tensors, about = read_headers(files)
    if config.get("quantization_config"):
        refuse_other_numbers(f"{where}: '{name}'", tensors, quantized=True)
        refuse_plain(f"{where}: '{name}'", tensors)
        scales = None
    else:
        scales = find_scales(f"{where}: '{name}'", tensors, about)
    if scales and is_scaled(tensors):
        shapes = {key: tensor["shape"] for key, tensor in tensors.items() if key not in scales.all_names}
        return load_tensors(Stored(where, files, scales, where), name, build_empty(model_class, config), shapes, dtype)
    options = {"trust_remote_code": False} if issubclass(model_class, PreTrainedModel) else {}
    model, info = model_class.from_pretrained(
        str(folder),
        output_loading_info=True,
        use_safetensors=True,
        variant=weights if list_variant_files(folder, weights) else None,
        dtype=dtype,
        **options,
    )
    # Layers of a quantized module may have buffers of their own, which its library looks after.
    stored = [] if config.get("quantization_config") else list_stored_buffers(model)
    computed = dict(model.named_buffers()).keys() - set(stored)
    refuse_missing_weights({name: sorted(key for key in info["missing_keys"] if key not in computed)}, where)
    refuse_unplaced_keys(where, name, model, info["unexpected_keys"], tensors)
    return model


def refuse_unplaced_keys(
    where: str, name: str, model: nn.Module, unexpected: Iterable[str], held: Iterable[str] = ()
) -> None:
    """Raises `RunError` for tensors of a loaded component that it has no place for, or one place for two of.

    The heads and towers beside a text encoder that `BESIDE` names, and tables that are computed, are left alone.

    Args:
        where: `key=value` of its files, for messages.
        name: of the component.
        model: the component.
        unexpected: what the library's report calls so.
        held: names of all tensors in its files.
    """
    from transformers import PreTrainedModel

    if same := _find_same(model, held):
        raise RunError(
            make_printable(
                f"{where}: '{name}' has {same[0]} and {same[1]}, which are one weight of a {type(model).__name__} by "
                "two names; use files with one of them"
            )
        )

    unplaced = sorted(unexpected)
    if isinstance(model, PreTrainedModel):
        unplaced = [key for key in unplaced if not TABLES.fullmatch(key) and not _is_beside(key, model)]
    if unplaced:
        raise RunError(
            make_printable(
                f"{where}: {len(unplaced)} of the tensors of '{name}' have no place in a {type(model).__name__}, the "
                f"first is {unplaced[0]}; they would be left out, and the images would not be this model's: choose the "
                "model of this folder (model=...), or give a folder that was saved by diffusers"
            )
        )


def _is_beside(key: str, model: nn.Module) -> bool:
    """True for a head or a tower that this class does not have."""
    part = _shorten(key).partition(".")[0]
    return part in BESIDE and part not in {_shorten(name).partition(".")[0] for name in model.state_dict()}


def _find_same(model: nn.Module, held: Iterable[str]) -> list[str]:
    """Two names of files that the libraries read as one weight, of which the last would count; empty without any."""
    base, known = getattr(model, "base_model_prefix", ""), model.state_dict().keys()
    groups: dict[str, list[str]] = {}
    for key in held:
        groups.setdefault(_shorten(key, base), []).append(key)
    return next((group for group in groups.values() if len(group) > 1 and not known >= set(group)), [])


def _shorten(key: str, base: str = "") -> str:
    """A name without what may stand before it, as diffusers spells it. base: what may stand there beside `BASES`."""
    parts = key.split(".")
    while len(parts) > 1 and parts[0] in (*BASES, base):
        parts.pop(0)
    *path, last = (OLDER.get(part, part) for part in parts) if len(parts) > 1 else parts
    return ".".join([*path, last])
