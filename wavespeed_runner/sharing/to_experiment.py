"""From a record's config back to the few lines of an experiment file that compose to it.

The overrides of the run are the start (`report/experiment.py`); then the file is composed, and what still differs is
added, until nothing does: the result is checked, whatever the values came through. It needs nothing but the shipped
configs and the installed plugins, no `--config-dir`, no calibration of the user's.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from ..config import trust
from ..config.compose import compose_job, composer, list_options
from ..config.error_messages import EXPLAINED
from ..config.paths import CONF
from ..config.resolve import resolve_config
from ..config.schema import KEYS_NOT_IN_IMAGES, NAMED_NODES, to_data
from ..errors import ConfigError
from ..planning.plan import build_plan
from ..records.override_yaml import experiment_yaml, merge
from ..records.record import Record

NAME = "point_to_be_exported"
ROUNDS = 8
"""Groups, groups inside of groups, values, and values that only then can be seen; a safe number."""
NOTHING = object()

Leaves = dict[str, Any]
"""Dotted key -> value; lists are values."""


def as_experiment(record: Record, config_dir: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The content of an experiment file, and the config that it composes to: the record's, made portable.

    Args:
        record: of the run.
        config_dir: where experiments of the user's are looked up that the overrides name.

    Raises:
        ConfigError: no experiment file gives this config, or the record was tampered with.
    """
    # What a run has written holds no interpolation; one to a resolver would put this machine's secrets into the file.
    trust.check_values(record.config)
    then = portable(to_data(resolve_config({**record.config, "claim": None})))
    document = yaml.safe_load(experiment_yaml(record.overrides, config_dir)) or {}
    document["defaults"] = [entry for entry in document.get("defaults", ()) if isinstance(entry, dict)]
    _make_portable(document)
    prompts, told = record.plan.prompts, set(leaves(document))
    missing: dict[str, tuple[Any, Any]] = {}
    for _ in range(ROUNDS):
        try:
            missing = _differing(document, then, prompts)
        except EXPLAINED:
            # Values of an option that only the user's folder has, or a choice that fits no more: begin with less.
            if document == {"defaults": []}:
                raise
            bare = len(document) == 1
            document = {"defaults": [] if bare else document["defaults"]}
            continue
        if not missing:
            document = _without_defaults(document, then, prompts)
            return _without_followers(document, then, prompts, told), then
        _add(document, missing, then)
    key, (now, wanted) = next(iter(missing.items()))
    why = "the key cannot be taken away by a config file" if wanted is NOTHING else f"the run had {wanted}"
    raise ConfigError(
        f"{key}={'nothing' if now is NOTHING else now}: {why}, and no experiment file can say so; put what the run "
        "had into a config option of its own, run that, and export it"
    )


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """Removes from a run's config what only makes sense on its machine.

    Files of prompts and images keep their name alone, as a config file may have them; a calibration file goes, since
    its numbers are in the config.
    """
    changed: dict[str, Any] = {}
    merge(changed, config)
    _make_portable(changed)
    return changed


def leaves(node: Any, key: str = "") -> Leaves:
    """Dotted key -> value, of nested dicts; an empty one is a value."""
    if not isinstance(node, dict) or not node:
        return {key: node}
    found: Leaves = {}
    for name, value in node.items():
        found |= leaves(value, f"{key}.{name}" if key else str(name))
    return found


def _make_portable(config: dict[str, Any]) -> None:
    for key, value in leaves(config).items():
        of_file = key in ("image", "mask", trust.PROMPT_FILE) or trust.STAGE_PATH.fullmatch(key)
        if of_file and isinstance(value, str) and not _portable_path(value):
            merge(config, _nested(key, _file_name(key, value)))
        elif key.endswith("cache.calibration") and value is not None and not value.startswith("pkg://"):
            merge(config, _nested(key, None))


def _portable_path(path: str) -> bool:
    return path.startswith("pkg://") or not (Path(path).is_absolute() or path.startswith("~") or ".." in path)


def _file_name(key: str, path: str) -> str:
    file = Path(path)
    return file.name if key != trust.PROMPT_FILE or file.suffix == ".txt" else f"{file.stem or 'prompts'}.txt"


def _differing(document: dict[str, Any], then: dict[str, Any], prompts: list[str]) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> what the document composes to, and what it should; `NOTHING` stands for no such key."""
    now, known = _composed(document, prompts)
    unasked = () if "device" in document else ("device",)
    wanted = {key: value for key, value in leaves(then).items() if _decides(key, unasked)}
    if not known:
        # Values without which nothing composes further: those, first.
        return {key: (None, wanted[key]) for key in now if key in wanted}
    found = {key: value for key, value in now.items() if _decides(key, unasked)}
    keys = [*wanted, *(key for key in found if key not in wanted)]
    pairs = {key: (found.get(key, NOTHING), wanted.get(key, NOTHING)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] is NOTHING or pair[1] is NOTHING or pair[0] != pair[1]}


def _decides(key: str, unasked: tuple[str, ...]) -> bool:
    return key.partition(".")[0] not in (*KEYS_NOT_IN_IMAGES, *unasked)


def _composed(document: dict[str, Any], prompts: list[str]) -> tuple[Leaves, bool]:
    """The config as a run with this experiment would have it, and True; where values are missing, them, and False."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "experiment" / f"{NAME}.yaml"
        file.parent.mkdir()
        with composer(folder):
            _only_known_options(document)
            file.write_text(yaml_text(document), encoding="utf-8")
            composed = compose_job([f"experiment={NAME}"], [f"experiment={NAME}"])
        absent = OmegaConf.missing_keys(OmegaConf.create(composed))
        if absent:
            return dict.fromkeys(sorted(absent)), False
        # An empty folder of outputs: a calibration of the user's is not what somebody else will find.
        composed["outputs"] = folder
        try:
            return leaves(to_data(build_plan(composed, prompts).config)), True
        except EXPLAINED:
            # Something that is not on this machine, or that is still to be added.
            return leaves(to_data(resolve_config(composed))), True


def _only_known_options(document: dict[str, Any]) -> None:
    """Takes out choices that only a folder of the user's has; what they hold is then added value by value."""
    kept = []
    for entry in document["defaults"]:
        ((key, option),) = entry.items()
        group = key.removeprefix("override ").lstrip("/").partition("@")[0]
        if not isinstance(option, str) or option in list_options(group):
            kept.append(entry)
    document["defaults"] = kept


def _add(document: dict[str, Any], missing: dict[str, tuple[Any, Any]], then: dict[str, Any]) -> None:
    """Adds what the document lacks: options of groups by the name of what they choose, else values."""
    choices = list(_choices(document, missing, then))
    if choices:
        # Groups inside of a group come with it, as it has them.
        shallow = min(group.count("/") for group, _ in choices)
        document["defaults"] += [{f"override /{g}": o} for g, o in choices if g.count("/") == shallow]
        return
    for key, (_, wanted) in missing.items():
        if wanted is not NOTHING:
            merge(document, _nested(key, wanted))


def _choices(
    document: dict[str, Any], missing: dict[str, tuple[Any, Any]], then: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    chosen = {key.removeprefix("override ").lstrip("/") for entry in document["defaults"] for key in entry}
    with composer(None):
        for path in NAMED_NODES:
            group = path.replace(".", "/")
            _, wanted = missing.get(f"{path}.name", (NOTHING, NOTHING))
            if wanted is not NOTHING and group not in chosen and (option := _option(group, wanted)):
                yield group, option


def _option(group: str, name: str) -> str | None:
    """A shipped option of a group that chooses `name`: the one called so, else the first (`sd15` chooses `sd`)."""
    shipped = [option for option in list_options(group) if (CONF / group / f"{option}.yaml").is_file()]
    schema = f"/schema/{group}/{name}@_here_"
    of_schema = (o for o in shipped if schema in (CONF / group / f"{o}.yaml").read_text(encoding="utf-8"))
    return name if name in shipped else next(of_schema, None)


def _without_defaults(document: dict[str, Any], then: dict[str, Any], prompts: list[str]) -> dict[str, Any]:
    """Leaves out choices and values that are there without being said, where that makes no difference."""
    for entry in document["defaults"]:
        fewer = {**document, "defaults": [other for other in document["defaults"] if other is not entry]}
        document = fewer if _gives(fewer, then, prompts) else document
    try:
        bare, known = _composed({"defaults": document["defaults"]}, prompts)
    except EXPLAINED:
        return document
    values = {key: value for key, value in leaves(document).items() if key != "defaults"}
    shorter: dict[str, Any] = {"defaults": document["defaults"]}
    for key, value in values.items():
        if key == "device" or bare.get(key, NOTHING) != value:
            merge(shorter, _nested(key, value))
    return shorter if known and _gives(shorter, then, prompts) else document


def _without_followers(
    document: dict[str, Any], then: dict[str, Any], prompts: list[str], told: set[str]
) -> dict[str, Any]:
    """Leaves out values that had to be added (none of those that were told) but follow others that were added too."""
    for key in [key for key in leaves(document) if key not in told and key != "defaults"]:
        fewer: dict[str, Any] = {"defaults": document["defaults"]}
        for other, value in leaves(document).items():
            if other not in (key, "defaults"):
                merge(fewer, _nested(other, value))
        document = fewer if _gives(fewer, then, prompts) else document
    return document


def _gives(document: dict[str, Any], then: dict[str, Any], prompts: list[str]) -> bool:
    """Whether the document composes to that config."""
    try:
        return not _differing(document, then, prompts)
    except EXPLAINED:
        return False


def yaml_text(document: dict[str, Any]) -> str:
    """As Hydra will read it: its YAML takes `1e3` and `1_0` for numbers, where PyYAML's own would not quote them."""
    content = {key: value for key, value in document.items() if key != "defaults" or value}
    body = OmegaConf.to_yaml(OmegaConf.create(content)) if content else ""
    return f"# @package _global_\n{body}"


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    nested: dict[str, Any] = value
    return nested
