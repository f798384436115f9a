"""Checks a LoRA file before diffusers and PEFT read it: the names, scales and settings in it are followed by them.

diffusers halves a scale until it is small enough, which never ends below zero; PEFT takes names of layers for regular
expressions, and makes its configuration of whatever the file's metadata holds. No torch is needed here.
"""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from ..inputs.documents import parse_json, read_safetensors_header, refuse_many
from ..inputs.files import InputError, open_regular
from ..inputs.limits import MAX_RANK
from ..models.weights.safetensors_file import STRUCTS, find_no_weight, unpack_numbers

NAME = re.compile(r"[\w.:/-]{1,300}", re.ASCII)
"""Of a tensor or a layer: no regular expression but `.`."""
METADATA = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's settings, https://huggingface.co/docs/diffusers/tutorials/using_peft_for_inference."""
PLAIN_TEXTS = ("peft_type", "task_type", "megatron_core", "bias", "init_lora_weights")
"""Settings that are one word."""
WORDS = ("LORA", "LOKR", "megatron.core", "none", "all", "lora_only", "gaussian", "FEATURE_EXTRACTION")
MOST_SETTINGS = 200_000
"""Values: some for each layer of each component."""


def find_hostile(file: Path) -> str | None:
    """What of an undamaged LoRA file would hang or mislead those that load it; None if nothing does."""
    header, length, _ = read_safetensors_header(file)
    metadata = header.pop("__metadata__", None) or {}
    if not isinstance(metadata, dict):
        return "its metadata is not an object"
    if name := next((name for name in header if not NAME.fullmatch(name)), None):
        return f"'{name[:60]}' is no name of a layer"
    if flaw := find_no_weight({name: tensor for name, tensor in header.items() if not name.endswith("alpha")}):
        return flaw
    with open_regular(file) as stream:
        for name, tensor in header.items():
            if name.endswith("alpha") and (flaw := _find_bad_scale(stream, 8 + length, tensor)):
                return f"{name}: {flaw}; a finite number above 0 is needed"
    ranks = [min(tensor["shape"]) for tensor in header.values() if len(tensor["shape"]) > 1]
    try:
        settings = parse_json(metadata[METADATA]) if metadata.get(METADATA) else None
        refuse_many(settings, MOST_SETTINGS)
        return _find_bad_setting(settings, min(max(ranks, default=1), MAX_RANK))
    except (InputError, TypeError) as error:
        return f"its {METADATA}: {error}"


def read_settings(file: Path) -> dict[str, Any] | None:
    """PEFT's settings in the metadata of a LoRA file that `find_hostile` has passed; None without any.

    Dropouts were for training: they are 0 here.
    """
    metadata = read_safetensors_header(file)[0].get("__metadata__") or {}
    settings = parse_json(metadata[METADATA]) if metadata.get(METADATA) else None
    return settings and {key: 0.0 if key.endswith("dropout") else value for key, value in settings.items()}


def _find_bad_scale(stream: Any, start: int, tensor: dict[str, Any]) -> str | None:
    """What is wrong with a tensor that holds a scale."""
    kind, shape, (begin, end) = tensor["dtype"], tensor["shape"], tensor["data_offsets"]
    if kind not in STRUCTS or math.prod(shape) != 1:
        return f"{kind} of shape {shape}"
    stream.seek(start + begin)
    number = unpack_numbers(kind, stream.read(end - begin))[0]
    return None if math.isfinite(number) and number > 0 else str(number)


def _find_bad_setting(settings: Any, largest_rank: int) -> str | None:
    """What is wrong with PEFT's settings, `COMPONENT.SETTING` -> value."""
    if settings is None:
        return None
    if not isinstance(settings, dict):
        return f"its {METADATA} is not an object"
    for key, value in settings.items():
        name = str(key).rpartition(".")[2]
        if isinstance(value, str) and name in PLAIN_TEXTS and value in WORDS:
            continue
        if name == "megatron_config" and value is not None:
            return f"{key}={value}: it names a library to load"
        if name == "init_lora_weights" and not isinstance(value, bool | None):
            return f"{key}={value}: true, false or 'gaussian' is needed"
        if flaw := _find_bad_value(value, largest_rank if name in ("r", "rank_pattern") else 2**31):
            return f"{key}: {flaw}"
    return None


def _find_bad_value(value: Any, most: int) -> str | None:
    """What is wrong with a value, or one inside of it: names of layers, and numbers from 0 to `most`."""
    if isinstance(value, dict):
        return next((flaw for pair in value.items() for part in pair if (flaw := _find_bad_value(part, most))), None)
    if isinstance(value, list):
        return next((flaw for part in value if (flaw := _find_bad_value(part, most))), None)
    if isinstance(value, str) and not NAME.fullmatch(value):
        return f"'{value[:60]}' is no name of a layer"
    if isinstance(value, int | float) and not 0 <= value <= most:
        return f"{value} is not between 0 and {most}"
    return None
