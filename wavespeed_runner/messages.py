"""What Hydra, OmegaConf and YAML throw, said in one line: the key, the value, what is allowed, the way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    InterpolationResolutionError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    UnsupportedInterpolationType,
)

from .errors import ConfigError, did_you_mean

EXPLAINED = (ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What a wrong configuration can raise before anything runs."""


def explain(error: BaseException) -> str:
    """One line for the innermost cause that we know how to say."""
    for cause in reversed(list(_chain(error))):
        if isinstance(cause, ConfigError):
            return str(cause)
        if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
            return _missing_option(cause)
        if isinstance(cause, OverrideParseException):
            return f"{cause.override}: not an override; KEY=VALUE is needed (quote values: 'KEY=\"a, b\"')"
        if isinstance(cause, yaml.YAMLError):
            return _yaml(cause)
        if isinstance(cause, OmegaConfBaseException):
            return _omegaconf(cause)
    return _first_line(error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _missing_option(error: MissingConfigException) -> str:
    group, _, option = (error.missing_cfg_file or "").rpartition("/")
    if not group:
        return f"no config '{option}'"
    if not error.options:
        return f"{group}={option}: no such config group '{group}'"
    return f"{group}={option}: no option '{option}' in config group '{group}'{did_you_mean(option, error.options)}"


def _yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or _first_line(error)
    return f"{where}broken YAML: {problem}"


def _omegaconf(error: OmegaConfBaseException) -> str:
    key = str(error.full_key or error.key or "").strip(".")
    if isinstance(error, MissingMandatoryValue):
        return f"{key}: a value is needed; give {key}=VALUE"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return f"{key}: no such key{did_you_mean(key.rpartition('.')[2], _valid_keys(error))}"
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType):
        return f"{key}: {_first_line(error)}"
    wanted = _wanted(error)
    return f"{key}: {_first_line(error)}{wanted}" if key else _first_line(error)


def _valid_keys(error: Any) -> list[str]:
    """Keys of the node in which the wrong one was looked for."""
    if is_dataclass(error.object_type):
        return [field.name for field in fields(error.object_type)]
    node = error.parent_node
    return [str(name) for name in node] if node is not None and OmegaConf.is_dict(node) else []


def _wanted(error: OmegaConfBaseException) -> str:
    """The type that the key has in its schema, where the message does not say it."""
    if is_dataclass(error.object_type):
        for field in fields(error.object_type):
            if field.name == error.key:
                return f" (wanted: {field.type if isinstance(field.type, str) else field.type.__name__})"
    return ""
