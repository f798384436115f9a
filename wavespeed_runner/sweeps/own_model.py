"""Overrides that a model folder of the user's own adds: which option it is, and what its files say otherwise.

Before anything is composed, so that they are overrides like any other: recorded, shown, and shared with the config.
What was typed is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..config.capability import has_fast_half
from ..config.compose import compose_job, compose_whole, find_key, parse_override
from ..config.environment import resolve_device
from ..config.error_messages import EXPLAINED
from ..config.schema import Init
from ..inputs.files import HUB_ID
from ..inputs.unreadable import refuse_unreadable
from ..models.weights.checkpoint import find_local_path, is_single_file
from ..models.weights.own_folder import Fact, find_option, read_facts
from ..planning.automatic import Change
from ..registry import lookup
from .points import to_overrides

COMPONENTS = "model.components"
INDEX = "model_index.json"
HERE = ("basic", "isolated")
"""Launchers whose jobs run on this machine."""
SMALL = 4 * 2**30
"""Bytes of weights that twice as many of are no burden in the memory of a CPU."""


@refuse_unreadable()
def name_option(overrides: Sequence[str]) -> list[str]:
    """Replaces `model=FOLDER` by the option that runs it, with `model.repo=FOLDER`.

    A bare name is always an option: a folder of that name where the command runs is `model=./NAME`.

    Raises:
        ConfigError: no option runs it, or several do.
    """
    found = []
    for override in overrides:
        value = override.partition("=")[2]
        if find_key(override) == "model" and "/" in value and _is_folder(value):
            found += [f"model={find_option(_resolve(value))}", *to_overrides({"model.repo": value})]
        else:
            found.append(override)
    return found


@refuse_unreadable()
def add_facts(overrides: Sequence[str]) -> tuple[list[str], list[Change]]:
    """Adds what a typed local folder says otherwise than its option. Inside `composer` only.

    Of a single file it is the folder in `model.components`, whose configurations give the shapes of the modules.
    Neither what was typed is touched, nor what an experiment sets otherwise than the option.

    Returns:
        The overrides, those of the folder first, and why.
    """
    key, place = _find_folder(overrides)
    if not place:
        return list(overrides), []
    try:
        single = [override for override in overrides if not parse_override(override).is_sweep_override()]
        whole = compose_whole(single, single)
        model, option = whole["model"], whole["hydra"]["runtime"]["choices"]["model"]
        plain = compose_job([f"model={option}"], [f"model={option}"])["model"]
    except EXPLAINED:
        return list(overrides), []  # planning says what is wrong
    if model["init"] not in (Init.pretrained, "pretrained") or any(find_key(o) == "model" for o in swept(overrides)):
        return list(overrides), []
    values = {key: getattr(value, "value", value) for key, value in model.items()}  # of enums
    family, folder = lookup("model", values["name"]).implementation, _resolve(place)
    facts = [*read_facts(folder, values, family), *_choose_dtype(folder, values, overrides)]
    if key == COMPONENTS:  # what is said of the folder is not so of the file in `model.repo`
        facts = [replace(fact, why=fact.why.replace(" its ", f" {key}'s ", 1)) for fact in facts]
    typed = {find_key(override) for override in overrides}
    set_ = {f"model.{key}" for key, value in model.items() if value != plain.get(key)}
    changes = [Change(key=fact.key, value=fact.value, why=fact.why) for fact in facts if fact.key not in typed | set_]
    return [*to_overrides({change.key: change.value for change in changes}), *overrides], changes


def _find_folder(overrides: Sequence[str]) -> tuple[str, str]:
    """The key and the folder that a typed model is read from; empty where it is no local folder."""
    typed = {find_key(o): o.partition("=")[2].strip("'\"") for o in overrides}
    repo, components = typed.get("model.repo", ""), typed.get(COMPONENTS, "")
    if repo and _is_folder(repo):
        return "model.repo", repo
    is_file = bool(repo) and is_single_file(find_local_path(repo))
    return (COMPONENTS, components) if is_file and _is_folder(components) else ("", "")


def swept(overrides: Sequence[str]) -> list[str]:
    """The overrides of several values."""
    return [override for override in overrides if parse_override(override).is_sweep_override()]


def _choose_dtype(folder: Path, model: dict[str, Any], overrides: Sequence[str]) -> list[Fact]:
    """float32 for a small model on a CPU that computes 16-bit floats only by conversion, many times slower."""
    typed = {find_key(override): override.partition("=")[2] for override in overrides}
    device = typed.get("device", "auto")
    if typed.get("hydra/launcher", "basic") not in HERE:
        return []  # its jobs run on other machines
    if resolve_device(device) != "cpu" or model["dtype"] == "float32" or has_fast_half(model["dtype"]):
        return []
    repo = find_local_path(typed.get("model.repo", "").strip("'\""))
    files = [*folder.glob("*/*.safetensors"), *([repo] if repo and repo.is_file() else [])]  # a folder, a single file
    if sum(file.stat().st_size for file in files) > SMALL:
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
