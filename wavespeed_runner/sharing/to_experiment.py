"""Converts a record's config back to the few lines of an experiment file that compose to it.

The overrides of the run are the start (`records/override_yaml.py`). The file is composed, and what still differs is
added, until nothing differs. So the result is checked, wherever the values came from. It needs only the shipped configs
and the installed plugins: no `--config-dir`, and no calibration that the user made.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from ..config import trust
from ..config.compose import compose_job, composer, list_options
from ..config.error_messages import EXPLAINED
from ..config.paths import CONF
from ..config.resolve import resolve_config
from ..config.schema import KEYS_NOT_IN_IMAGES, NAMED_NODES, to_data
from ..errors import ConfigError
from ..inputs.yaml_documents import parse_yaml
from ..planning.plan import build_plan
from ..records.override_yaml import experiment_yaml, merge
from ..records.record import Record
from .document import FlatConfig, copy_portable, flatten, format_yaml, make_portable, nest
from .find_graph import GROUP as GRAPH
from .find_graph import find_graph
from .prompts import carry_prompts

EXPERIMENT = "point_to_be_exported"
"""Name under which the experiment is composed."""
MAX_ROUNDS = 8
"""Groups, groups inside groups, values, and values that appear only then take four rounds; this leaves room."""
MOST_TRIED = 100
"""Options, and values, that are left out on trial, each of which takes some hundredths of a second; a file of more of
them, which is hostile, stays as long as it is."""
ABSENT = object()
"""Stands for the value of a key that does not exist."""


class Target(NamedTuple):
    """What a document is to compose to."""

    config: dict[str, Any]
    prompts: list[str]
    """Those of the run, in the place of a prompt file that another user may not have."""
    folder: str
    """An empty folder, in which documents are composed."""
    planned: bool
    """Whether the config is that of a plan, with all that planning fills in; otherwise it is as composed."""


def convert_to_experiment(record: Record, config_dir: Path | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Finds the content of an experiment file that composes to a record's config.

    Args:
        record: the record of a run.
        config_dir: the user's folder of configs, for experiments that the overrides name.

    Returns:
        The content, and the config that it composes to: the record's, with portable paths.

    Raises:
        ConfigError: no experiment file gives this config, or the record was tampered with.
    """
    return convert_config(record.config, record.plan.prompts, record.overrides, config_dir)


def convert_config(
    given: dict[str, Any],
    prompts: list[str],
    overrides: Sequence[str] = (),
    config_dir: Path | None = None,
    *,
    planned: bool = True,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As `convert_to_experiment`, of the resolved config of a run.

    Args:
        given: the config.
        prompts: those that the run had.
        overrides: with which it was run, as far as they are known: what was typed stays, even where it follows.
        config_dir: as of `convert_to_experiment`.
        planned: False for a config that was composed and leaves open what planning fills in, such as a cache's numbers.

    Raises:
        ConfigError: no experiment file gives this config, or it was tampered with.
    """
    # A config that a run wrote has no interpolations; one to a resolver would write this machine's secrets into the
    # file.
    trust.check_values(given)
    config = copy_portable(to_data(resolve_config({**given, "claim": None})))
    document = parse_yaml(experiment_yaml(overrides, config_dir)) or {}
    document["defaults"] = [entry for entry in document.get("defaults", ()) if isinstance(entry, dict)]
    make_portable(document)
    carry_prompts(document, config, prompts)
    with tempfile.TemporaryDirectory() as folder:
        return _approach(document, Target(config, prompts, folder, planned)), config


def _approach(document: dict[str, Any], target: Target) -> dict[str, Any]:
    """Adds to the document what it lacks until it composes to the target, then removes what is not needed."""
    given = set(flatten(document))
    differences: dict[str, tuple[Any, Any]] = {}
    for _ in range(MAX_ROUNDS):
        try:
            differences = _find_differences(document, target)
        except EXPLAINED:
            # Values of an option that only the user has, or a choice that no longer fits: start again with less.
            if document == {"defaults": []}:
                raise
            document = {"defaults": [] if len(document) == 1 else document["defaults"]}
            continue
        if not differences:
            return _remove_derived_values(_remove_defaults(document, target), target, given)
        _add(document, differences, target)
    raise ConfigError(_explain_failure(differences))


def _explain_failure(differences: dict[str, tuple[Any, Any]]) -> str:
    key, (now, wanted) = next(iter(differences.items()))
    why = "a config file cannot remove this key" if wanted is ABSENT else f"the run had {wanted}"
    return (
        f"{key}={'nothing' if now is ABSENT else now}: {why}, so no experiment file gives the config of the run; write "
        "a config option that does, run with it, and export that run"
    )


def _find_differences(document: dict[str, Any], target: Target) -> dict[str, tuple[Any, Any]]:
    """Dotted key -> what the document composes to and what it should; `ABSENT` where there is no such key."""
    composed, is_complete = _compose(document, target)
    ignored = KEYS_NOT_IN_IMAGES if "device" in document else (*KEYS_NOT_IN_IMAGES, "device")
    wanted = {key: value for key, value in flatten(target.config).items() if key.partition(".")[0] not in ignored}
    if not is_complete:
        # Mandatory values come first: nothing composes without them.
        return {key: (None, wanted[key]) for key in composed if key in wanted}
    now = {key: value for key, value in composed.items() if key.partition(".")[0] not in ignored}
    keys = [*wanted, *(key for key in now if key not in wanted)]
    pairs = {key: (now.get(key, ABSENT), wanted.get(key, ABSENT)) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] is ABSENT or pair[1] is ABSENT or pair[0] != pair[1]}


def _compose(document: dict[str, Any], target: Target) -> tuple[FlatConfig, bool]:
    """The config of a run with this experiment, and True; where mandatory values are missing, their keys and False."""
    with composer(target.folder):
        _remove_unknown_options(document)
        file = Path(target.folder) / "experiment" / f"{EXPERIMENT}.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_text(format_yaml(document), encoding="utf-8")
        composed = compose_job([f"experiment={EXPERIMENT}"], [f"experiment={EXPERIMENT}"])
    missing = OmegaConf.missing_keys(OmegaConf.create(composed))
    if missing:
        return dict.fromkeys(sorted(missing)), False
    # With an output folder that is empty: another user does not have this user's calibrations.
    composed["outputs"] = target.folder
    if not target.planned:
        return flatten(to_data(resolve_config(composed))), True
    try:
        return flatten(to_data(build_plan(composed, target.prompts).config)), True
    except EXPLAINED:
        # Something that this machine lacks, or that is still to be added.
        return flatten(to_data(resolve_config(composed))), True


def _remove_unknown_options(document: dict[str, Any]) -> None:
    """Removes options that only a folder of the user has; their values are then added one by one."""
    kept = []
    for entry in document["defaults"]:
        ((key, option),) = entry.items()
        group = key.removeprefix("override ").lstrip("/").partition("@")[0]
        if not isinstance(option, str) or option in list_options(group):
            kept.append(entry)
    document["defaults"] = kept


def _add(document: dict[str, Any], differences: dict[str, tuple[Any, Any]], target: Target) -> None:
    """Adds what the document lacks: options of config groups if there are any, otherwise values."""
    choices = list(_find_options(document, differences, target.config))
    if choices:
        # An option brings the options of the groups inside its group, so the outermost groups come first.
        depth = min(group.count("/") for group, _ in choices)
        document["defaults"] += [{f"override /{g}": option} for g, option in choices if g.count("/") == depth]
        return
    for key, (_, wanted) in differences.items():
        if wanted is not ABSENT:
            merge(document, nest(key, wanted))


def _find_options(
    document: dict[str, Any], differences: dict[str, tuple[Any, Any]], config: dict[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yields group and option for each registered name that differs and whose group is not in the defaults list."""
    chosen = {
        key.removeprefix("override ").lstrip("/").partition("@")[0] for one in document["defaults"] for key in one
    }
    is_wired_otherwise = any(key == "graph.output" or key.startswith("graph.stages.") for key in differences)
    has_graph = any(key.partition("@")[0] == GRAPH for key in chosen)
    if is_wired_otherwise and not has_graph and (option := find_graph(config[GRAPH])):
        yield GRAPH, option
    with composer(None):
        for path in NAMED_NODES:
            group = path.replace(".", "/")
            _, wanted = differences.get(f"{path}.name", (ABSENT, ABSENT))
            if wanted is not ABSENT and group not in chosen and (option := _find_option(group, wanted)):
                yield group, option


def _find_option(group: str, name: str) -> str | None:
    """A shipped option of a group that chooses `name`: the one with this name, else the first (`sd15` chooses `sd`)."""
    shipped = [option for option in list_options(group) if (CONF / group / f"{option}.yaml").is_file()]
    schema = f"/schema/{group}/{name}@_here_"
    of_schema = (o for o in shipped if schema in (CONF / group / f"{o}.yaml").read_text(encoding="utf-8"))
    return name if name in shipped else next(of_schema, None)


def _remove_defaults(document: dict[str, Any], target: Target) -> dict[str, Any]:
    """Removes options and values that are the defaults anyway."""
    for entry in document["defaults"] if len(document["defaults"]) <= MOST_TRIED else ():
        shorter = {**document, "defaults": [other for other in document["defaults"] if other is not entry]}
        document = shorter if _composes_to(shorter, target) else document
    try:
        defaults, is_complete = _compose({"defaults": document["defaults"]}, target)
    except EXPLAINED:
        return document
    shorter = {"defaults": document["defaults"]}
    for key, value in flatten(document).items():
        if key != "defaults" and (key == "device" or defaults.get(key, ABSENT) != value):
            merge(shorter, nest(key, value))
    return shorter if is_complete and _composes_to(shorter, target) else document


def _remove_derived_values(document: dict[str, Any], target: Target, given: set[str]) -> dict[str, Any]:
    """Removes values that were added but follow from others. Values that the user gave (`given`) stay."""
    added = [key for key in flatten(document) if key not in given and key != "defaults"]
    for key in added if len(added) <= MOST_TRIED else ():
        shorter: dict[str, Any] = {"defaults": document["defaults"]}
        for other, value in flatten(document).items():
            if other not in (key, "defaults"):
                merge(shorter, nest(other, value))
        document = shorter if _composes_to(shorter, target) else document
    return document


def _composes_to(document: dict[str, Any], target: Target) -> bool:
    try:
        return not _find_differences(document, target)
    except EXPLAINED:
        return False
