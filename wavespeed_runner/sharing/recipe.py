"""`from=FILE`: takes the settings out of an image, a record, a run or an experiment, as overrides of a new command.

The file may be a stranger's. What is taken of it is checked as a config file is (`config/trust.py`); what was typed
stands in its place. So whatever comes later sees overrides alone: a sweep, a record, an export.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..config import trust
from ..config.compose import compose_job, composer, find_key
from ..config.error_messages import EXPLAINED, explain
from ..config.resolve import resolve_config
from ..errors import ConfigError, format_error, make_printable
from ..inputs.documents import refuse_many
from ..inputs.files import WEIGHTS, InputError
from ..inputs.limits import MAX_OVERRIDES
from ..planning.automatic import Change
from ..planning.graph import refuse_many_stages
from ..planning.prompts import read_prompts
from ..records.file import read_record
from ..records.override_yaml import is_group, merge
from ..sweeps.points import quote, to_overrides
from .document import flatten, nest
from .export import find_record
from .image_config import SUFFIXES, read_image_config
from .source import read_source
from .to_experiment import convert_config

KEY = "from"
PROMPTS = ("prompt", "prompts", "prompts.texts", "prompts.path")
"""Each says which prompts there are, and takes the place of the others."""
NOT_BESIDE = {"experiment": "it is a recipe of its own", "points": "write what varies as KEY=A,B with -m"}
NOT_TAKEN = ("points", "claim", *trust.COMMAND_LINE_KEYS)
KEPT_WHOLE = ("model", "graph")
"""Groups from which others get their defaults: the recipe is read with its own."""
UNREAD = "-"
"""Stands for the prompts of a file that others take the place of."""
OF_THE_MACHINE = ("device",)
STAGES = "graph.stages."
SHOWN = 400
"""Characters of a recipe in the plan."""


class Recipe(NamedTuple):
    """What a file says of how it was made."""

    config: dict[str, Any]
    prompts: list[str] | None
    """Those that the run had; None: they are read from where the config says."""
    overrides: list[str]
    planned: bool = True
    """Whether the config is that of a run; an experiment's leaves open what planning fills in."""


def take_recipe(overrides: Sequence[str]) -> tuple[list[str], list[Change]]:
    """Replaces `from=FILE` by the overrides of its recipe; what else was typed comes after them, and wins.

    A group that was typed, such as `cache=none`, takes the place of all that the recipe says of it.

    Returns:
        The overrides, and the change that tells what was taken; none where there is no `from=FILE`.

    Raises:
        ConfigError: the file has no recipe, or names what only the command line may.
    """
    given = [override for override in overrides if is_recipe(override)]
    if not given:
        return list(overrides), []
    typed = [override for override in overrides if not is_recipe(override)]
    file = given[0].partition("=")[2]
    if not file:
        raise ConfigError(f"{KEY}=: a value is needed: an image, a record.json, a run's folder or an experiment")
    if len(given) > 1:
        raise ConfigError(f"{given[1]}: {KEY} is given twice; there is one recipe, and KEY=VALUE changes it")
    keys = {find_key(override).partition("@")[0] for override in typed}
    for key in NOT_BESIDE.keys() & keys:
        raise ConfigError(f"{key}: not beside {given[0]}: {NOT_BESIDE[key]}")
    try:
        values = _convert(_read(Path(file).expanduser()), keys)
    except EXPLAINED as error:
        raise ConfigError(_name_file(explain(error), file)) from None
    except InputError as error:
        raise ConfigError(f"{KEY}={file}: its config: {error}") from None
    except Exception as error:  # whatever a hostile file leads to
        message = f"{type(error).__name__}: {format_error(error)}"
        raise ConfigError(f"{KEY}={file}: not the output of a run: {message}") from error
    kept = {key: value for key, value in values.items() if not _is_replaced(key, keys)}
    return [*(_write(*item) for item in kept.items()), *typed], [_tell(file, kept, values.keys() - kept.keys())]


def is_recipe(override: str) -> bool:
    """True for `from=FILE`."""
    return override.partition("=")[0] == KEY


def _is_replaced(key: str, typed: set[str]) -> bool:
    """Whether something that was typed takes the place of a key or group of the recipe."""
    dotted = key.replace("/", ".")
    above = (each.replace("/", ".") for each in typed)
    is_below = any(dotted == each or dotted.startswith(f"{each}.") for each in above)
    return is_below or (key in PROMPTS and not typed.isdisjoint(PROMPTS))


def _read(path: Path) -> Recipe:
    if path.is_dir():
        path = find_record(path)
    if not path.is_file():
        what = "not a regular file" if path.exists() else "no such file"
        raise ConfigError(f"{path}: {what}; give an image, a record.json, a run's folder or an experiment")
    if path.suffix.lower() in SUFFIXES:
        config = read_image_config(path)[0]
        return Recipe(config, [config["prompt"]], [])
    if path.suffix.lower() == ".json":
        record = read_record(path)
        return Recipe(record.config, record.plan.prompts, record.overrides)
    config, expected = read_source(path, for_replay=False)
    return Recipe(config, expected.get("prompts"), [], expected.get("planned", True))


def _convert(recipe: Recipe, typed: set[str]) -> dict[str, Any]:
    """Key or group -> value, of all that the recipe has otherwise than the defaults."""
    config = {key: value for key, value in trust.remove_places(recipe.config).items() if key not in OF_THE_MACHINE}
    refuse_many(config)
    refuse_many_stages(config)
    trust.check_values(config)
    # A prompt file that was read is named by the record as it was typed then; it is not read again.
    checked = {**config, "prompts": None} if recipe.prompts or config.get("prompt") is not None else config
    trust.check_files(_leave_out(checked, typed))
    config = _set_typed(config, typed)
    known = (each for each in recipe.overrides if find_key(each) not in OF_THE_MACHINE)
    overrides = [each for each in known if not _is_replaced(find_key(each), typed)]
    prompts = recipe.prompts or ([UNREAD] if not typed.isdisjoint(PROMPTS) else read_prompts(resolve_config(config)))
    document, _ = convert_config(config, prompts, overrides, planned=recipe.planned)
    groups = {_name_group(key): option for entry in document.pop("defaults") for key, option in entry.items()}
    values = flatten(document) if document else {}
    taken = {key: value for key, value in {**groups, **values}.items() if not _is_of_command(key)}
    if len(taken) > MAX_OVERRIDES:
        raise ConfigError(f"{len(taken)} settings that are not the defaults; at most {MAX_OVERRIDES} are taken")
    return taken


def _is_of_command(key: str) -> bool:
    """Whether a key makes jobs, or is for the command line alone."""
    return key.lstrip("+").partition(".")[0] in NOT_TAKEN or key.lstrip("+").startswith("hydra")


def _leave_out(config: dict[str, Any], typed: set[str]) -> dict[str, Any]:
    """The config without what was typed, which may name any file and any code."""
    kept: dict[str, Any] = {}
    for key, value in flatten(config).items():
        if not _is_replaced(key, typed):
            merge(kept, nest(key, value))
    return kept


def _set_typed(config: dict[str, Any], typed: set[str]) -> dict[str, Any]:
    """The config with plain values where something was typed that no file may say, so that it can be converted."""
    groups = [key for key in typed if is_group(key) and key in config and key not in KEPT_WHOLE]
    with composer(None):
        defaults = compose_job([], []) if groups else {}
    config = {**config, **{group: defaults[group] for group in groups}}
    for key in typed:
        group, _, name = key.partition(".")
        node = config.get(group)
        if group == "compile" and isinstance(node, dict):
            config[group] = {each: value for each, value in node.items() if each != name}
        elif trust.find_kind(key) is WEIGHTS and isinstance(node, dict):
            judge, _, last = name.partition(".")
            if isinstance(node.get(judge), dict):
                config[group] = {**node, judge: {**node[judge], last: "typed.safetensors"}}
    return config


def _name_group(key: str) -> str:
    """`cache` of `override /cache`, an entry of a defaults list; `+cache` of one that adds an option."""
    name = key.removeprefix("override ").lstrip("/")
    return name if key.startswith("override ") else f"+{name}"


def _write(key: str, value: Any) -> str:
    """An override. A stage's option may not be there yet; a prompt file is for the command line alone."""
    if is_group(key.lstrip("+")):
        return f"{key}={value if isinstance(value, str) else quote(value)}"
    if key == trust.PROMPT_FILE or key.startswith(STAGES):
        return f"{'++' if key.startswith(STAGES) else ''}{key}={quote(value)}"
    return to_overrides({key: value})[0]


def _tell(file: str, kept: dict[str, Any], replaced: Iterable[str]) -> Change:
    """The change that the plan and the record have."""
    words = [f"{key}={_shorten(value)}" for key, value in kept.items()]
    recipe = " ".join(words) or "the defaults"
    recipe = recipe if len(recipe) <= SHOWN else f"{recipe[:SHOWN]}..."
    typed = f"; typed here instead: {', '.join(sorted(replaced))}" if replaced else ""
    return Change(key=KEY, value=make_printable(file), why=make_printable(f"its recipe: {recipe}{typed}"))


def _shorten(value: Any) -> str:
    if isinstance(value, list) and len(value) > 1:
        return f"[{len(value)} of them]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _name_file(message: str, file: str) -> str:
    return message if file in message else f"{message}; in {KEY}={file}"
