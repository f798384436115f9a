"""What Hydra, OmegaConf and YAML throw, said in one line: the key, the value, what is allowed, the way out."""

from __future__ import annotations

import re
import shlex
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

from .. import registry
from ..errors import ConfigError, did_you_mean
from .paths import list_groups
from .schema import Config

EXPLAINED = (ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError)
"""What a wrong configuration can raise before anything runs."""

OURS = ("config", "hydra/config")
"""Files whose error is that of a command line that chooses something else in them."""

KEY = re.compile(r"[+~]{0,2}[a-z_][\w/@:-]*(\.[\w/@:-]+)*", re.ASCII | re.IGNORECASE)
NOT_THIS_CLASS = re.compile(r"(?:Merge error|Invalid type assigned): \w+ is not a subclass of (\w+)\.")


def explain_config_error(error: Exception) -> str | None:
    """The message for an error of a wrong configuration; None for any other error."""
    return explain(error) if isinstance(error, EXPLAINED) else None


def explain(error: BaseException) -> str:
    """One line for the innermost cause that we know how to say, and the config file in which it stands."""
    chain = list(_chain(error))
    text = next((said for cause in reversed(chain) if (said := _said(cause))), _first_line(error))
    files = (found[1] for cause in chain if (found := re.match(r"In '([^']+)': ", str(cause))))
    file = next((f for f in files if f not in OURS and not f.startswith("schema/")), None)
    return f"{text}; in {file}.yaml" if file else text


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _said(cause: BaseException) -> str | None:
    if isinstance(cause, ConfigError):
        return str(cause)
    if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
        return _missing_option(cause)
    if isinstance(cause, OverrideParseException):
        return _unreadable(cause)
    if isinstance(cause, yaml.YAMLError):
        return _yaml(cause)
    if isinstance(cause, OmegaConfBaseException):
        return _omegaconf(cause)
    return _hydra(cause) if isinstance(cause, HydraException) else None


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return re.sub(r"^In '[^']+': |\.$", "", lines[0]) if lines else type(error).__name__


def _missing_option(error: MissingConfigException) -> str:
    path = error.missing_cfg_file or ""
    if not error.options:
        group, _, option = path.removeprefix("schema/").rpartition("/")
        near = did_you_mean(option, registry.list_names(group)) if path.startswith("schema/") else ""
        return f"{path}: no such config{near}"
    found = re.search(r"Available options in '([^']+)'", str(error))
    group = found[1] if found else path.rpartition("/")[0]
    option = path.removeprefix(f"{group}/")
    return f"{group}={option}: no option '{option}' in config group '{group}'{did_you_mean(option, error.options)}"


def _unreadable(error: OverrideParseException) -> str:
    key, equals, _ = error.override.partition("=")
    if not equals:
        return f"{error.override}: KEY=VALUE or GROUP=OPTION is needed"
    if not KEY.fullmatch(key):
        return f"{key}: no key can be written so; keys are names with dots between, as in cache.start=0.2"
    evaluated = re.search(r"while evaluating .*", str(error))
    if evaluated:
        return f"{error.override}: error {evaluated[0]}"
    return f"{error.override}: not readable as KEY=VALUE; quote the value: {_quoted(error.override)}"


def _quoted(override: str) -> str:
    """The override as a shell takes it, its value in quotes that Hydra takes."""
    key, _, value = override.partition("=")
    value = value.strip("\"'").replace('"', '\\"')
    return shlex.quote(f'{key}="{value}"')


def _yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or _first_line(error)
    return f"{where}broken YAML: {problem}"


def _hydra(error: HydraException) -> str | None:
    """The messages of Hydra's composition that leave out what is allowed, or the way out."""
    text = str(error)
    if found := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        return f"{found[1]}: several values; add -m to run each, or quote the value: {_quoted(found[1])}"
    if found := re.search(r"Could not override '([^']+)'\. No match in the defaults list", text):
        return _no_such_group(found[1])
    if found := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{found[1]}: nothing to take out, it is not there or null"
    if found := re.match(r"Multiple values for ([^ ]+)\. To override a value use 'override [^:]+: (.*)'", text):
        group, option = found.groups()
        return f"{group}: chosen already; on the command line {group}={option}, in a file 'override /{group}: {option}'"
    return None


def _no_such_group(name: str) -> str:
    if name in list_groups():
        return f"{name}: the chosen option of '{name.partition('/')[0]}' has no such part; choose another"
    return f"{name}: no such config group{did_you_mean(name, list_groups())}"


def _omegaconf(error: OmegaConfBaseException) -> str:
    key = str(error.full_key or error.key or "").strip(".")
    if isinstance(error, MissingMandatoryValue):
        return f"{key}: a value is needed; give {key}=VALUE"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return _no_such_key(key, error)
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType):
        ours = _first_line(error).partition("ConfigError raised while resolving interpolation: ")[2]
        return ours or f"{key}: {_first_line(error)}"
    if found := NOT_THIS_CLASS.match(str(error)):
        return _not_an_option(key, found[1])
    problem = _first_line(error)
    if "is not Optional" in problem:
        problem = "null is not allowed"
    elif problem == "Cannot merge DictConfig with ListConfig":
        problem = "keys and their values are needed, not a list"
    return f"{key}: {problem}{_wanted(error)}" if key else problem


def _no_such_key(key: str, error: Any) -> str:
    if "/" in key:
        return _no_such_group(key)
    if key == "experiment":
        return "experiment: an experiment file begins with the line '# @package _global_'"
    near = did_you_mean(key.rpartition(".")[2], _valid_keys(error))
    add = "" if is_dataclass(error.object_type) or "did you mean" in near else f"; to add one: +{key}=VALUE"
    return f"{key}: no such key{near}{add}"


def _valid_keys(error: Any) -> list[str]:
    """Keys of the node in which the wrong one was looked for."""
    if is_dataclass(error.object_type):
        return [field.name for field in fields(error.object_type)]
    node = error.parent_node
    return [str(name) for name in node] if node is not None and OmegaConf.is_dict(node) else []


def _not_an_option(key: str, wanted: str) -> str:
    """Something else where an option of a group stands; which one, OmegaConf says only by its class."""
    known = {field.type: field.name for field in fields(Config)}
    key = (
        key or known.get(wanted) or next((e.group for e in registry.list_entries() if e.options.__name__ == wanted), "")
    )
    group = key.replace(".", "/")
    if group not in list_groups():
        return f"{key or 'config'}: keys and their values are needed"
    return (
        f"{key}: one option of the group is needed; choose it with {group}=NAME ('override /{group}: NAME' among a "
        f"file's defaults), set its keys with {key}.KEY=VALUE"
    )


def _wanted(error: OmegaConfBaseException) -> str:
    """The type that the key has in its schema, where the message does not say it."""
    if is_dataclass(error.object_type):
        for field in fields(error.object_type):
            if field.name == error.key:
                wanted = field.type.__name__ if isinstance(field.type, type) else field.type
                return f" (wanted: {str(wanted).replace('typing.', '')})"
    return ""
