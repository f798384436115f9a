"""Reads the rules to a configuration. The plan shows every one that speaks, and stops on a bad one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from math import isfinite
from typing import Any

from ..config.schema import Config
from ..errors import ConfigError, Unfit
from ..models.family import Family
from ..registry import find_implementation
from . import RULES, Text, Verdict

STAGE_VALUES = (
    "model",
    "device",
    "steps",
    "guidance_scale",
    "width",
    "height",
    "num_frames",
    "strength",
    "batch_size",
    "sampler",
    "cache",
    "adapters",
    "memory",
)
"""What the rules look at and a graph may set for one stage alone."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A rule's word on one configuration: the record's `plan.verdicts`."""

    rule: str
    verdict: Verdict
    message: str
    fix: str
    source: str


def apply_rules(config: Config) -> list[Finding]:
    """Every rule that speaks, in the order of the table. Non-finite numbers stop here before any rule compares them."""
    for key, value in _numbers(config):
        if not isfinite(value):
            raise ConfigError(f"{key}={value}: a finite number is needed")
    family: Family = find_implementation("model", config.model)
    return [
        Finding(
            rule=rule.id,
            verdict=rule.verdict,
            message=_said(rule.message, config, family),
            fix=_said(rule.fix, config, family),
            source=rule.source,
        )
        for rule in RULES
        if rule.when(config, family)
    ]


def _said(text: Text, config: Config, family: Family) -> str:
    return text.format(c=config, f=family) if isinstance(text, str) else text(config, family)


def refuse_bad(spoken: list[Finding]) -> None:
    """Raises `Unfit` with the first bad verdict and its way out."""
    for word in spoken:
        if word.verdict == "bad":
            raise Unfit(word.message + (f"; {word.fix}" if word.fix else ""))


def _numbers(node: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """All floats of a config, with their dotted keys."""
    if isinstance(node, float):
        yield key, node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _numbers(value, f"{key}.{name}" if key else name)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _numbers(value, f"{key}[{index}]")
    elif is_dataclass(node):
        for field in fields(node):
            yield from _numbers(getattr(node, field.name), f"{key}.{field.name}" if key else field.name)
