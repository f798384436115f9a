"""Turns errors of Hydra, OmegaConf and YAML into one line: the key, the value, what is allowed, the way out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
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
from .absent import explain_absent_option
from .familiar import suggest_options
from .mistyped_words import describe_bare_word
from .own_models import explain_own_model
from .paths import list_groups
from .schema import Config
from .unknown_keys import explain_unknown_group, explain_unknown_key, list_shipped_options

EXPLAINED = (ConfigError, HydraException, OmegaConfBaseException, yaml.YAMLError)
"""Exceptions that a wrong configuration can raise before anything runs."""

HYDRA_ALONE = "options of Hydra's own groups come from this package, Hydra and installed plugins, never from a folder"

SHIPPED = ("config", "hydra/config")
"""Our own files: an error in one is caused by the command line, so the file is not named."""

SEVERAL = {
    "seeds": "it is same or per_prompt; several images of a prompt are num_images_per_prompt=3, and runs with several "
    "seeds -m seed=1,2,3",
}
"""A key that several values are typed for, though no sweep over them is meant -> what to type."""
ONE = {"seed": "; several: -m seed=1,2,3 makes a run of each, num_images_per_prompt=3 three images in one run"}
"""A key of which somebody wants several values in one run -> what to type."""

KEY = re.compile(r"[+~]{0,2}[a-z_][\w/@:-]*(\.[\w/@:-]+)*", re.ASCII | re.IGNORECASE)
TYPED = re.compile(r"To append to your config use \+(.*)")
"""How Hydra cites the override that it could not apply."""
NOT_THIS_CLASS = re.compile(r"(?:Merge error|Invalid type assigned): \w+ is not a subclass of (\w+)\.")


def explain_config_error(error: Exception) -> str | None:
    """Explains an error of a wrong configuration in one line; None for any other error."""
    return explain(error) if isinstance(error, EXPLAINED) else None


def explain(error: BaseException) -> str:
    """Explains in one line the innermost cause that we know, and names the config file that it is in."""
    chain = list(_walk_causes(error))
    typed = _find_typed(chain)
    told = (message for cause in reversed(chain) if (message := _explain_cause(cause, typed)))
    text = next(told, _read_first_line(error))
    files = (match[1] for cause in chain if (match := re.match(r"In '([^']+)': ", str(cause))))
    file = next((f for f in files if f not in SHIPPED and not f.startswith("schema/")), None)
    where = [f"; in {file}.yaml"] if file else []
    return " ".join(["".join([text, *where]), *(note for cause in chain for note in getattr(cause, "__notes__", ()))])


def find_word(error: BaseException, arguments: Sequence[str]) -> str:
    """The override of a command line whose key, or whose option, does not exist; empty for any other mistake.

    Args:
        error: that the command ended with.
        arguments: of the command.
    """
    chain = list(_walk_causes(error))
    for cause in chain:
        if isinstance(cause, MissingConfigException) and cause.options:
            group, _, option = (cause.missing_cfg_file or "").rpartition("/")
            return f"{group}={option}" if any(given.startswith(f"{group}=") for given in arguments) else ""
    return _find_typed(chain)


def _find_typed(chain: Sequence[BaseException]) -> str:
    return next((match[1] for cause in chain if (match := TYPED.search(str(cause)))), "")


def _walk_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _explain_cause(cause: BaseException, typed: str) -> str | None:
    if isinstance(cause, ConfigError):
        return str(cause)
    if isinstance(cause, MissingConfigException) and cause.missing_cfg_file:
        return _explain_missing_option(cause)
    if isinstance(cause, OverrideParseException):
        return _explain_unreadable(cause)
    if isinstance(cause, yaml.YAMLError):
        return _explain_yaml(cause)
    if isinstance(cause, OmegaConfBaseException):
        return _explain_omegaconf(cause, typed)
    return _explain_hydra(cause) if isinstance(cause, HydraException) else None


def _read_first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return re.sub(r"^In '[^']+': |\.$", "", lines[0]) if lines else type(error).__name__


def _explain_missing_option(error: MissingConfigException) -> str:
    path = error.missing_cfg_file or ""
    if not error.options:
        group, _, option = path.removeprefix("schema/").rpartition("/")
        if group == "metrics":  # one of several, for which Hydra lists no options
            return f"metrics=[{option}]: no such judge{did_you_mean(option, list_shipped_options(group))}"
        near = did_you_mean(option, registry.list_names(group)) if path.startswith("schema/") else ""
        return f"{path}: no such config{near}"
    match = re.search(r"Available options in '([^']+)'", str(error))
    group = match[1] if match else path.rpartition("/")[0]
    option = path.removeprefix(f"{group}/")
    if group == "model" and (told := explain_own_model(option)):
        return f"model={option}: {told}"
    why = f"; {HYDRA_ALONE}" if group.startswith("hydra/") else ""
    if absent := explain_absent_option(group, option, f"{group}={option}"):
        return f"{group}={option}: {absent}"
    if Path(group, f"{option}.yaml").is_file():
        return f"{group}={option}: {group}/{option}.yaml here is not read by itself; add --config-dir ."
    near = suggest_options(group, option, error.options)
    return f"{group}={option}: no option '{option}' in config group '{group}'{near}{why}"


def _explain_unreadable(error: OverrideParseException) -> str:
    key, equals, _ = error.override.partition("=")
    if not equals:
        shown = error.override or "an override without text"
        return f"{shown}: KEY=VALUE or GROUP=OPTION is needed{describe_bare_word(error.override)}"
    if not KEY.fullmatch(key):
        return f"{key}: not a valid key; keys are names joined by dots, as in cache.start=0.2"
    evaluated = re.search(r"while evaluating .*", str(error))
    if evaluated:
        return f"{error.override}: error {evaluated[0]}"
    return f"{error.override}: cannot be read as KEY=VALUE; quote the value: {_quote(error.override)}"


def _quote(override: str) -> str:
    """The override quoted for a shell, its value quoted for Hydra."""
    key, _, value = override.partition("=")
    value = value.strip("\"'").replace('"', '\\"')
    return shlex.quote(f'{key}="{value}"')


def _explain_several(override: str) -> str:
    """Explains several values without -m; quotes make one of them only where a text may stand."""
    key = override.partition("=")[0]
    if key in SEVERAL:
        return f"{override}: {SEVERAL[key]}"
    kinds = {str(field.type) for field in fields(Config) if field.name == key}
    is_text = not kinds or any("str" in kind for kind in kinds)
    quote = f", or quote the value: {_quote(override)}" if is_text and key not in list_groups() else ""
    return f"{override}: several values; add -m to run each{quote}"


def _explain_yaml(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    problem = getattr(error, "problem", None) or _read_first_line(error)
    return f"{where}broken YAML: {problem}"


def _explain_hydra(error: HydraException) -> str | None:
    """Hydra's messages that do not say what is allowed, or the way out; None for the others."""
    text = str(error)
    if match := re.match(r"Ambiguous value for argument '(.*)'\n", text):
        return _explain_several(match[1])
    if match := re.search(r"Could not override '([^']+)'\. No match in the defaults list", text):
        return explain_unknown_group(match[1])
    if match := re.match(r"Could not delete from config\. '([^']+)' does not exist", text):
        return f"~{match[1]}: nothing to remove, it does not exist or is null"
    if match := re.match(r"Multiple values for ([^ ]+)\. To override a value use 'override [^:]+: (.*)'", text):
        group, option = match.groups()
        return f"{group}: already chosen; on the command line {group}={option}, in a file 'override /{group}: {option}'"
    return None


def _explain_omegaconf(error: OmegaConfBaseException, typed: str) -> str:
    key = str(error.full_key or error.key or _find_merged_key(error)).strip(".")
    if isinstance(error, MissingMandatoryValue):
        return f"{key}: a value is needed; give {key}=VALUE"
    if isinstance(error, ConfigKeyError | ConfigAttributeError):
        return explain_unknown_key(key, error, typed)
    if isinstance(error, InterpolationResolutionError | UnsupportedInterpolationType):
        ours = _read_first_line(error).partition("ConfigError raised while resolving interpolation: ")[2]
        return ours or f"{key}: {_read_first_line(error)}"
    if match := NOT_THIS_CLASS.match(str(error)):
        return _explain_wrong_class(key, match[1])
    problem = _read_first_line(error)
    if match := re.match(r"Invalid value assigned: (\w+) is not a ListConfig", problem):
        problem = f"a list is needed, not {match[1]}: {key}=[...]"
    if match := re.match(r"'(Dict|List)Config' is incompatible with type hint '(?:<class ')?(\w+)", problem):
        problem = f"a {match[2]} is needed, not a {'list' if match[1] == 'List' else 'mapping'}"
    if match := re.match(r"Could not create instance of `\w+`: (.*)", problem):
        problem = f"its values do not go together: {match[1]}"
    if "is not Optional" in problem:
        problem = "null is not allowed"
    elif problem == "Cannot merge DictConfig with ListConfig":
        problem = "keys and their values are needed, not a list"
    way = ONE.get(key, "") if "," in problem else ""
    way = way or (f"; {SEVERAL[key]}" if key in SEVERAL else "")
    return f"{key}: {problem}{_describe_wanted_type(error)}{way}" if key else problem


def _find_merged_key(error: BaseException) -> str:
    """The key at which merging failed, where OmegaConf does not say: of a list in the place of another kind."""
    names, trace = [], error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_name == "_map_merge":
            names.append(str(trace.tb_frame.f_locals.get("key", "")))
        trace = trace.tb_next
    return ".".join(names)


def _explain_wrong_class(key: str, wanted: str) -> str:
    """Explains that something else is in the place of a group's option; OmegaConf names only the option's class."""
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


def _describe_wanted_type(error: OmegaConfBaseException) -> str:
    """The key's type from the schema, which the message leaves out."""
    if is_dataclass(error.object_type):
        for field in fields(error.object_type):
            if field.name == error.key:
                wanted = field.type.__name__ if isinstance(field.type, type) else field.type
                return f" (wanted: {str(wanted).replace('typing.', '')})"
    return ""
