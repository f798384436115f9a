"""Puts the prompts of a run into its experiment file: whoever runs it elsewhere has no prompt file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..config.paths import CONF
from ..inputs.files import PACKAGE
from ..inputs.yaml_documents import read_yaml
from ..records.override_yaml import merge

GROUP, LISTED = "override /prompts", "listed"
"""Entry of a defaults list, and the option whose prompts stand in the config itself."""
DEFAULT = "demo"
OURS = f"{PACKAGE}wavespeed_runner/"
"""Prompt files that everyone has."""
MAX_TEXTS, MAX_CHARACTERS = 1000, 64 * 1024
"""Prompts that a file carries, and their characters: with a hash of each image they fill a config file, of which
256 KiB are read."""


def explain_not_carried(prompts: Sequence[str]) -> str:
    """Why an experiment file cannot carry these prompts; empty where it can."""
    characters = sum(map(len, prompts))
    if len(prompts) > MAX_TEXTS or characters > MAX_CHARACTERS:
        return (
            f"{len(prompts)} prompts of {characters} characters are too many for a config file, which carries at most "
            f"{MAX_TEXTS} of {MAX_CHARACTERS}"
        )
    if any("${" in prompt for prompt in prompts):
        return "a prompt has '${' in it, which a config file takes for a reference to another value"
    return ""


def carry_prompts(document: dict[str, Any], config: dict[str, Any], prompts: list[str]) -> None:
    """Replaces a prompt file by its prompts, in place, where they fit; a prompt of its own needs no file at all.

    Args:
        document: the beginning of an experiment file, with its defaults list.
        config: the resolved config that the file is to give.
        prompts: of the run.
    """
    group = config["prompts"]
    if config["prompt"] is not None:
        _choose(document, config, read_yaml(CONF / "prompts" / f"{DEFAULT}.yaml")["path"], None, option=None)
    elif group["path"] is None or not (str(group["path"]).startswith(OURS) or explain_not_carried(prompts)):
        _choose(document, config, None, prompts, option=LISTED)


def needs_prompt_file(config: dict[str, Any]) -> bool:
    """Whether a run of this config reads a prompt file that is not the package's own."""
    path = config["prompts"]["path"]
    return config["prompt"] is None and path is not None and not str(path).startswith(OURS)


def _choose(
    document: dict[str, Any], config: dict[str, Any], path: str | None, texts: list[str] | None, *, option: str | None
) -> None:
    """Lets both have this file or these prompts; `option` is that of the group that the document chooses."""
    document["defaults"] = [entry for entry in document["defaults"] if GROUP not in entry]
    kept = {key: value for key, value in (document.get("prompts") or {}).items() if key not in ("path", "texts")}
    document.pop("prompts", None)
    if option is not None:
        document["defaults"].append({GROUP: option})
        kept["texts"] = texts
    if kept:
        document["prompts"] = kept
    merge(config, {"prompts": {"path": path, "texts": texts}})
