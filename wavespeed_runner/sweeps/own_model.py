"""Overrides that a model folder of the user's own adds: which option it is, and what its files say otherwise.

Before anything is composed, so that they are overrides like any other: recorded, shown, and shared with the config.
What was typed is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..config.capability import has_fast_half
from ..config.compose import compose_job, find_key
from ..config.environment import resolve_device
from ..config.schema import Init
from ..errors import ConfigError
from ..inputs.files import HUB_ID
from ..models.weights.checkpoint import find_local_path
from ..models.weights.own_folder import Fact, find_option, read_facts
from ..registry import lookup
from .points import to_overrides

INDEX = "model_index.json"
SMALL = 4 * 2**30
"""Bytes of weights that twice as many of are no burden in the memory of a CPU."""


def name_option(overrides: Sequence[str]) -> list[str]:
    """Replaces `model=FOLDER` by the option that runs it, with `model.repo=FOLDER`.

    Raises:
        ConfigError: no option runs it, or several do.
    """
    found = []
    for override in overrides:
        value = override.partition("=")[2]
        if find_key(override) == "model" and _is_folder(value):
            found += [f"model={find_option(_resolve(value))}", *to_overrides({"model.repo": value})]
        else:
            found.append(override)
    return found


def add_facts(overrides: Sequence[str]) -> tuple[list[str], list[Fact]]:
    """Adds what a typed local `model.repo` says otherwise than its option. Inside `composer` only.

    Returns:
        The overrides, those of the folder first, and the folder's.
    """
    repo = next((o.partition("=")[2].strip("'\"") for o in overrides if find_key(o) == "model.repo"), "")
    if not repo or not _is_folder(repo):
        return list(overrides), []
    of_model = [override for override in overrides if find_key(override).partition(".")[0] == "model"]
    try:
        composed: dict[str, Any] = compose_job(of_model, of_model)["model"]
        if composed["init"] not in (Init.pretrained, "pretrained"):
            return list(overrides), []
        model = {key: getattr(value, "value", value) for key, value in composed.items()}  # of enums
        family = lookup("model", model["name"]).implementation
        facts = [*read_facts(_resolve(repo), model, family), *_choose_dtype(_resolve(repo), model, overrides)]
    except (ConfigError, LookupError):
        return list(overrides), []  # planning says what is wrong
    typed = {find_key(override) for override in overrides}
    facts = [fact for fact in facts if fact.key not in typed]
    return [*to_overrides({fact.key: fact.value for fact in facts}), *overrides], facts


def _choose_dtype(folder: Path, model: dict[str, Any], overrides: Sequence[str]) -> list[Fact]:
    """float32 for a small model on a CPU that computes 16-bit floats only by conversion, many times slower."""
    device = next((o.partition("=")[2] for o in overrides if find_key(o) == "device"), "auto")
    if resolve_device(device) != "cpu" or model["dtype"] == "float32" or has_fast_half():
        return []
    if sum(file.stat().st_size for file in folder.glob("*/*.safetensors")) > SMALL:
        return []
    why = f"this CPU has no instructions for {model['dtype']}, and the model is small"
    return [Fact(key="model.dtype", value="float32", why=why)]


def _is_folder(value: str) -> bool:
    return bool(value) and (HUB_ID.fullmatch(value) is None or Path(value).exists()) and _has_index(value)


def _has_index(value: str) -> bool:
    path = find_local_path(value)
    return path is not None and (path / INDEX).is_file()


def _resolve(value: str) -> Path:
    path = find_local_path(value)
    assert path is not None
    return path
