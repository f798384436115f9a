"""What a component's own configuration says of its class, where model_index.json says another: nobody looks at it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from .folder_gate import list_components, read_config

CONFIGS = ("config.json", "scheduler_config.json")


def explain_other_classes(where: str, folder: Path, without: Collection[str]) -> list[str]:
    """A sentence for each component of an inspected diffusers folder whose configuration names another class.

    without: components that are not loaded.
    """
    said = []
    for name, (_, used) in sorted(list_components(where, folder).items()):
        for file in (folder / name / config for config in CONFIGS):
            named = read_config(where, file).get("_class_name") if file.is_file() else None
            if name not in without and named is not None and named != used:
                said.append(f"{name} is a {used}, as model_index.json says; {file.name} says {str(named)[:80]!r}")
    return said
