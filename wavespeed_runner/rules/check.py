"""Applies the rules to a configuration. The plan shows every rule that applies, and stops at a bad verdict."""

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
    "quant",
    "attention",
    "compile",
    "accelerate",
    "memory",
    "parallel",
)
"""Values that the rules look at and that a graph may set for a single stage."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a rule says of one configuration: an entry of the record's `plan.verdicts`."""

    rule: str
    verdict: Verdict
    message: str
    fix: str
    source: str


def apply_rules(config: Config) -> list[Finding]:
    """Applies every rule to a configuration; returns what those say that apply, in the order of the table.

    Raises:
        ConfigError: a number is infinite or not a number; refused here, before any rule compares it.
    """
    for key, value in _walk_numbers(config):
        if not isfinite(value):
            raise ConfigError(f"{key}={value}: a finite number is needed")
    family: Family = find_implementation("model", config.model)
    return [
        Finding(
            rule=rule.id,
            verdict=rule.verdict,
            message=_format_text(rule.message, config, family),
            fix=_format_text(rule.fix, config, family),
            source=rule.source,
        )
        for rule in RULES
        if rule.when(config, family)
    ]


def _format_text(text: Text, config: Config, family: Family) -> str:
    return text.format(c=config, f=family) if isinstance(text, str) else text(config, family)


def refuse_bad(findings: list[Finding]) -> None:
    """Raises `Unfit` with the first bad verdict and its fix."""
    for finding in findings:
        if finding.verdict == "bad":
            raise Unfit(finding.message + (f"; {finding.fix}" if finding.fix else ""))


def _walk_numbers(node: Any, key: str = "") -> Iterator[tuple[str, float]]:
    """All floats of a config, with their dotted keys."""
    if isinstance(node, float):
        yield key, node
    elif isinstance(node, dict):
        for name, value in node.items():
            yield from _walk_numbers(value, f"{key}.{name}" if key else name)
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _walk_numbers(value, f"{key}[{index}]")
    elif is_dataclass(node):
        for field in fields(node):
            yield from _walk_numbers(getattr(node, field.name), f"{key}.{field.name}" if key else field.name)
