"""Decides what a `quantization_config` inside a model folder may hold: known settings, and plain names of layers.

torchao calls whatever name of its modules `_type` gives, functions too, with `_data` as arguments; of "torch.dtype" it
takes any attribute of torch, such as `torch.save`. transformers and torchao take names of layers for regular
expressions, which a process matches without a bound of time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .json_values import walk

METHODS = ("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit", "quanto", "torchao")
PLAIN = re.compile(r"[\w.-]*", re.ASCII)
"""Names of layers, methods and types. As a regular expression it has no repetition: it is matched in one pass."""
TORCHAO_TYPES = re.compile(
    r"[A-Z][A-Za-z0-9]*(Config|TensorToFloat8Kwargs|TensorToInt8Kwargs|PackingFormat|ChooseQParamsAlgorithm)"
    r"|Per(Axis|Block|Group|Row|Tensor|Token)|MappingType|ZeroPointDomain|TorchAODType|KernelPreference"
    r"|ScaleCalculationMode",
    re.ASCII,
)
"""Settings of torchao: dataclasses and enumerations, none of which does anything but hold its values."""
DTYPES = re.compile(r"(u?int|b?float)\d\w*|bool", re.ASCII)


def explain_quantization(config: Any) -> str:
    """Why a folder may not ask for this quantization; empty if it may.

    Args:
        config: the value of `quantization_config` in a component's configuration.
    """
    if not isinstance(config, dict):
        return "is no object"
    legacy = "bitsandbytes" if config.get("load_in_4bit") or config.get("load_in_8bit") else None
    method = config.get("quant_method", legacy)
    if method == "gguf":
        return "asks for the method 'gguf', and a folder has safetensors; give a GGUF file as model.repo=FILE.gguf"
    if method not in METHODS:
        return f"asks for the method {str(method)[:80]!r}; allowed: {', '.join(METHODS)}"
    for text in _list_texts(config):
        if not PLAIN.fullmatch(text):
            return f"has {text[:80]!r}; names of layers and types are letters, digits, '_', '.' and '-'"
    return _explain_torchao(config.get("quant_type")) if method == "torchao" else ""


def _explain_torchao(quant_type: Any) -> str:
    chosen = quant_type.get("default") if isinstance(quant_type, dict) and len(quant_type) == 1 else None
    if not isinstance(chosen, dict) or "_type" not in chosen:
        return "has no quant_type as torchao writes it, {default: {_type: NAME, _data: {...}}}"
    for node in walk(quant_type):
        if not isinstance(node, dict) or "_type" not in node:
            continue
        name, data = node["_type"], node.get("_data")
        if name == "torch.dtype" and DTYPES.fullmatch(str(data)):
            continue
        if name == "torch.dtype" or not TORCHAO_TYPES.fullmatch(str(name)):
            shown = f"{name} {data}" if name == "torch.dtype" else name
            return f"asks for {str(shown)[:80]!r}, which is no setting of torchao, and no code of a folder is run"
    return ""


def _list_texts(data: Any) -> Iterator[str]:
    """All texts in JSON data, the keys too."""
    for node in walk(data):
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            yield from node
