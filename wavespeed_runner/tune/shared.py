"""Settings of shared experiments, which `tune gallery=DIR` tries beside those of a space."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from ..config.compose import compose_job, composer
from ..config.error_messages import EXPLAINED, explain
from ..errors import ConfigError, make_printable
from ..inputs.files import InputError, is_within, read_text
from ..inputs.yaml_documents import parse_yaml
from ..planning.plan import Plan
from .settings import Cut, Setting, plan_settings
from .space import Family, Space
from .space_values import GROUPS, Scalar, read_key, read_scalar

MOST_FILES, MOST_BYTES = 300, 2**20
NAME = "shared "
"""How the names of their ladders begin; then comes the file."""
MODEL = "demo"
"""The option of an experiment that names none."""
OVERRIDE = re.compile(r"override\s+/?([\w/]+)(?:@\S+)?")


@dataclass(frozen=True, kw_only=True)
class Shared:
    """A setting of a shared experiment."""

    file: str
    """Below the folder that was given."""
    setting: Setting


def add_shared(space: Space, folder: Path | None, plan: Plan, args: Namespace) -> tuple[Space, list[Shared], list[Cut]]:
    """The space with the settings of shared experiments; these; and which cannot be tried here, and why.

    Args:
        space: without them.
        folder: of the experiments; None: there are none.
        plan: of the full run.
        args: `overrides` and `config_dir` of all rounds.
    """
    if folder is None:
        return space, [], []

    @cache
    def is_model(option: str) -> bool:
        try:
            with composer(args.config_dir):
                found = compose_job([f"model={option}"], [f"model={option}"])["model"]
        except EXPLAINED:
            return False
        return (found["name"], found.get("repo")) == (plan.config.model.name, plan.config.model.repo)

    families, cuts = read_shared(folder, is_model)
    kept, shared = [], []
    for family in families:
        file = family.name.removeprefix(NAME)
        try:
            settings, refused = plan_settings(args, family.settings({}))
        except EXPLAINED as error:
            cuts.append(Cut(name=file, reason=make_printable(f"{file}: {explain(error)}")))
            continue
        if settings:
            kept.append(family)
            shared.append(Shared(file=file, setting=settings[0]))
        else:
            why = refused[0].reason if refused else "what it sets is the reference itself, or what was typed"
            cuts.append(Cut(name=file, reason=make_printable(f"{file}: {why}")))
    return replace(space, families=[*kept, *space.families]), shared, cuts


def read_shared(folder: Path, is_model: Callable[[str], bool]) -> tuple[list[Family], list[Cut]]:
    """Reads what the experiments in a folder, and below it, set of solvers, steps, caches, number formats and the like.

    What they ask for (prompts, sizes, seeds) is the tuning's own.

    Args:
        folder: with `.yaml` files that `export` or `tune` wrote; they may come from strangers.
        is_model: whether an option of `model` is the one that is tuned: settings of others are left out.

    Returns:
        A ladder of one setting for each experiment; and which were left out, and why.

    Raises:
        ConfigError: no such folder, no file in it, or too many.
    """
    if not folder.is_dir():
        raise ConfigError(f"gallery={folder}: no such folder; give one with experiment files that export or tune wrote")
    found = sorted(islice(folder.rglob("*.yaml"), MOST_FILES + 1))
    if not 0 < len(found) <= MOST_FILES:  # no more are looked for, so how many there are is not known
        many = f"more than {MOST_FILES}" if found else "no"
        raise ConfigError(f"gallery={folder}: {many} .yaml files in it; 1 to {MOST_FILES} are read")
    families, cuts = [], []
    for path in found:
        name = make_printable(str(path.relative_to(folder)))
        try:
            if not is_within(path, [folder]):
                raise ConfigError("it leads out of this folder; copy it here")
            families.append(_read(path, name, is_model))
        except (InputError, ConfigError, OSError, ValueError, yaml.YAMLError) as error:
            cuts.append(Cut(name=name, reason=make_printable(f"{name}: {' '.join(str(error).split())}")))
    return families, cuts


def _read(path: Path, name: str, is_model: Callable[[str], bool]) -> Family:
    """One experiment as a ladder of one setting. Raises ConfigError where it is none for this model."""
    content = parse_yaml(read_text(path, MOST_BYTES))
    if isinstance(content, dict) and isinstance(content.get("graph"), dict) and isinstance(content.get("model"), dict):
        raise ConfigError("the config of a run, not an experiment; python -m wavespeed_runner export RUN makes one")
    if not isinstance(content, dict) or content.get("claim") is None:
        raise ConfigError(
            "it has no claim, the figures of a run: export RUN writes an experiment with one, export IMAGE without"
        )
    chosen = _read_defaults(content.get("defaults") or [])
    if not is_model(of := str(chosen.pop("model", MODEL))):
        raise ConfigError(f"for model={of}, which is not the one that is tuned")
    point = {key: value for key, value in chosen.items() if re.split(r"[./]", key)[0] in GROUPS}
    for group in GROUPS:
        for key, value in _flatten(content[group], group) if group in content else ():
            point[read_key(key, "it")] = read_scalar(value, f"it: {key}")
    if not point:
        raise ConfigError(f"it sets none of {', '.join(GROUPS)}")
    last, value = list(point.items())[-1]
    return Family(
        name=f"{NAME}{name}",
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
