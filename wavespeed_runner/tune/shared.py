"""Settings of shared experiments, which `tune gallery=DIR` tries beside those of a space."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ..errors import ConfigError, make_printable
from ..inputs.files import InputError, read_text
from ..inputs.yaml_documents import parse_yaml
from .settings import Cut
from .space import Family
from .space_values import GROUPS, Scalar, read_key, read_scalar

MOST_FILES, MOST_BYTES = 300, 2**20
MODEL = "demo"
"""The option of an experiment that names none."""
OVERRIDE = re.compile(r"override\s+/?([\w/]+)(?:@\S+)?")


def read_shared(folder: Path, model: str) -> tuple[list[Family], list[Cut]]:
    """Reads what the experiments in a folder, and below it, set of solvers, steps, caches, number formats and the like.

    What they ask for (prompts, sizes, seeds) is the tuning's own.

    Args:
        folder: with `.yaml` files that `export` or `tune` wrote; they may come from strangers.
        model: the option that is tuned: settings of other models are left out.

    Returns:
        A ladder of one setting for each experiment; and which were left out, and why.

    Raises:
        ConfigError: no such folder, no file in it, or too many.
    """
    if not folder.is_dir():
        raise ConfigError(f"gallery={folder}: no such folder; give one with experiment files that export or tune wrote")
    found = sorted(path for path in folder.rglob("*.yaml") if path.is_file())
    if not 0 < len(found) <= MOST_FILES:
        raise ConfigError(f"gallery={folder}: {len(found)} .yaml files in it; 1 to {MOST_FILES} are read")
    families, cuts = [], []
    for path in found:
        try:
            families.append(_read(path, model))
        except (InputError, ConfigError, OSError, ValueError) as error:
            cuts.append(Cut(name=make_printable(path.name), reason=make_printable(f"{path.name}: {error}")))
        except Exception as error:  # PyYAML's own
            cuts.append(Cut(name=make_printable(path.name), reason=make_printable(f"{path.name}: not YAML: {error}")))
    return families, cuts


def _read(path: Path, model: str) -> Family:
    """One experiment as a ladder of one setting. Raises ConfigError where it is none for this model."""
    content = parse_yaml(read_text(path, MOST_BYTES))
    if not isinstance(content, dict) or "claim" not in content:
        raise ConfigError("not an experiment with a claim")
    chosen = _read_defaults(content.get("defaults") or [])
    if (of := chosen.pop("model", MODEL)) != model:
        raise ConfigError(f"for model={of}, and this is model={model}")
    point = {key: value for key, value in chosen.items() if re.split(r"[./]", key)[0] in GROUPS}
    for group in GROUPS:
        for key, value in _flatten(content[group], group) if group in content else ():
            point[read_key(key, "it")] = read_scalar(value, f"it: {key}")
    if not point:
        raise ConfigError(f"it sets none of {', '.join(GROUPS)}")
    last, value = list(point.items())[-1]
    return Family(
        name=f"shared {path.stem}",
        set={key: value for key, value in point.items() if key != last},
        choose={},
        key=last,
        values=[value],
    )


def _read_defaults(defaults: Any) -> dict[str, Scalar]:
    """`override /cache: planned` -> {"cache": "planned"}."""
    chosen: dict[str, Scalar] = {}
    for entry in defaults if isinstance(defaults, list) else []:
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if match := OVERRIDE.fullmatch(str(key)):
                chosen[match[1]] = read_scalar(value, f"it: defaults: {key}")
    return chosen


def _flatten(node: Any, key: str) -> list[tuple[str, Any]]:
    if not isinstance(node, dict):
        return [(key, node)]
    return [pair for name, value in node.items() for pair in _flatten(value, f"{key}.{name}")]
