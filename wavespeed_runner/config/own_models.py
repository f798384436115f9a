"""Explains `model=` with a file, a folder or a hub id: those are `model.repo` of the option that runs them."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from ..errors import ConfigError
from ..inputs.files import HUB_ID, resolve_path
from .paths import CONF

FILE = re.compile(r"\.(safetensors|gguf)$", re.IGNORECASE)
PICKLE = re.compile(r"\.(ckpt|bin|pt|pth|pkl)$", re.IGNORECASE)
ADDRESS = re.compile(r"https?://(www\.)?(huggingface\.co|hf\.co)/(?P<id>[\w.-]+/[\w.-]+)/?", re.ASCII)
OPTION = "FAMILY is one of the models of --help"


def explain_own_model(typed: str) -> str:
    """What to type instead of `model=` with this value; empty where it looks like the name of an option.

    Args:
        typed: what was given for `model`.
    """
    if not typed:
        return f"the name of an option is needed, or a folder: model=FOLDER; {OPTION.replace('FAMILY', 'an option')}"
    if address := ADDRESS.fullmatch(typed):
        typed = address["id"]
    path = _find_path(typed)
    if PICKLE.search(typed):
        return "a pickle, which can run any code when it is opened; model=FAMILY model.repo=FILE.safetensors is read"
    if FILE.search(typed):
        lacks = "" if path else ", and there is none of this name"
        return f"a single file is the repo of its family{lacks}: model=FAMILY model.repo={typed}; {OPTION}"
    if path and path.is_dir():
        return _explain_folder(typed, path)
    if HUB_ID.fullmatch(typed):
        return _explain_hub_id(typed)
    if re.search(r"[/\\]|^[.~]", typed):
        way = "a diffusers folder is model=FOLDER, a single file model=FAMILY model.repo=FILE"
        return f"no folder of weights is there; {way}"
    return ""


def _find_path(typed: str) -> Path | None:
    try:
        path = resolve_path(typed)
        return path if path.exists() else None
    except (ConfigError, OSError, ValueError):  # no such package or home; too long
        return None


def _explain_folder(typed: str, folder: Path) -> str:
    file = next((file.name for file in sorted(folder.glob("*")) if FILE.search(file.name)), "")
    if (folder / "model_index.json").exists():
        return f"an option is a name, and a folder here is model=./{typed}"
    ours = f"; a single file in it: model=FAMILY model.repo={Path(typed, file)}; {OPTION}" if file else ""
    return f"this folder has no model_index.json, so it is no diffusers pipeline; give the folder that has one{ours}"


def _explain_hub_id(typed: str) -> str:
    option = find_published_option(typed)
    if option:
        return f"model={option} is this model"
    return f"a model of the hub is the repo of its family: model=FAMILY model.repo={typed}; {OPTION}"


def find_published_option(hub_id: str) -> str | None:
    """The shipped option whose weights are this repository of the hub; None where there is none."""
    return _list_published().get(hub_id.lower())


@lru_cache(maxsize=1)
def _list_published() -> dict[str, str]:
    """Hub id in small letters -> the shipped option."""
    files = sorted((CONF / "model").glob("*.yaml"))
    repos = {file.stem: re.search(r"^repo: (\S+/\S+)", file.read_text("utf-8"), re.MULTILINE) for file in files}
    return {match[1].lower(): option for option, match in repos.items() if match}
