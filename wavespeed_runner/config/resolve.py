"""Converts a composed config to the dataclasses of `schema.py`: checked and typed, once, at the top.

Hydra composes; `resolve_config` converts the result, or a config read back from a record. Unknown keys and wrong types
stop here, also those added with `+group.key=`. Nothing above this module uses OmegaConf.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from .. import registry
from ..errors import ConfigError
from . import fast, trust
from .fast import convert
from .schema import ADDED_GROUPS, MODEL_DEFAULT_KEYS, NAMED_NODES, Config, to_data
from .typed_text import refuse_numbers


def resolve_config(composed: dict[str, Any]) -> Config:
    """Checks a composed config and converts it to dataclasses.

    Args:
        composed: plain data with interpolations unresolved, as Hydra composed it or as a record holds it.

    Raises:
        ConfigError: unregistered name, missing value, a prompt that is a number in YAML.
        omegaconf.errors.OmegaConfBaseException: unknown key, wrong type, broken interpolation.
    """
    composed = {**{group: {"name": name} for group, name in ADDED_GROUPS.items()}, **composed}
    refuse_numbers(composed)
    schemas = tuple(type_ for _, type_ in _find_named_nodes(composed))
    if fast.is_enabled():
        config = convert.convert(composed, schemas, merge=_merge, finish=_to_object, finish_sets=MODEL_DEFAULT_KEYS)
    else:
        config = _to_object(_merge(composed))
    assert isinstance(config, Config)
    trust.check_resolved(to_data(config))
    return config


def _merge(composed: dict[str, Any]) -> DictConfig:
    """The config merged into its schema."""
    node = OmegaConf.create(composed)
    for key in sorted(OmegaConf.missing_keys(node)):
        of, in_list, _ = key.partition("[")  # of a list, no override sets a single value
        raise ConfigError(f"{key}: a value is needed; give {of}={'[VALUE, ...]' if in_list else 'VALUE'}")
    root = OmegaConf.merge(_find_schema(Config, composed), node)
    assert isinstance(root, DictConfig)
    return root


def _to_object(root: Any) -> Any:
    """The dataclasses, null values replaced by the graph's and the model's own."""
    if root.strength is None:
        root.strength = root.graph.strength
    for key in MODEL_DEFAULT_KEYS:
        if root[key] is None:
            root[key] = root.model[key]
    return OmegaConf.to_object(root)


def resolve_node(group: str, given: dict[str, Any], key: str) -> Any:
    """The typed options of a named node that stands somewhere else than under its group.

    Args:
        group: `sampler`.
        given: `name` and its options, plain data.
        key: where it stands, for messages.

    Raises:
        ConfigError: no such name, an unknown option or a value of another type; names the key.
    """
    options = registry.lookup(group, str(given.get("name")), f"{key}.name").options
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(options), given))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{key}.{error.full_key or ''}: {str(error).splitlines()[0]}") from None


def resolve_stage_options(config: Config) -> dict[str, Any]:
    """Resolves the options of every stage: what the graph gives, the rest from the top-level values.

    Returns:
        Stage name -> its typed options.

    Raises:
        ConfigError: as `resolve_config`; the key begins with `graph.stages.NAME.options`.
        omegaconf.errors.OmegaConfBaseException: likewise.
    """
    root: Any = None
    resolved = {}
    for name, stage in config.graph.stages.items():
        given = {} if stage.options is None else stage.options
        if not isinstance(given, dict):
            raise ConfigError(f"graph.stages.{name}.options={given}: keys and their values are needed")
        options = registry.lookup("stage", stage.stage, f"graph.stages.{name}.stage").options
        if fast.is_enabled() and (converted := convert.convert_stage_options(options, given, config)) is not None:
            resolved[name] = converted
            continue
        root = root or OmegaConf.structured(config)
        resolved[name] = _merge_stage_options(root, name, options, given)
    return resolved


def _merge_stage_options(root: Any, name: str, options: type, given: dict[str, Any]) -> Any:
    """One stage's options by way of OmegaConf; `root` is the structured config that they follow."""
    key = f"graph.stages.{name}.options"
    try:
        root.graph.stages[name].options = OmegaConf.merge(_find_schema(options, given), given)
        return OmegaConf.to_object(root.graph.stages[name].options)
    except ConfigError as error:
        raise type(error)(f"{key}: {error}") from None
    except OmegaConfBaseException as error:
        if not str(error.full_key).startswith(key):
            error.full_key = f"{key}.{error.full_key}"
        raise


def _find_schema(base: type, given: dict[str, Any]) -> DictConfig:
    """The schema of `base` for this config; do not change it."""
    named = tuple(_find_named_nodes(given))
    return _build_schema(base, named) if fast.is_enabled() else _build_schema.__wrapped__(base, named)


@lru_cache(maxsize=256)
def _build_schema(base: type, named: tuple[tuple[str, type], ...]) -> DictConfig:
    """A structured config of `base` with these dataclasses at these paths. Shared; `OmegaConf.merge` copies it."""
    root = OmegaConf.structured(base)
    for path, options in named:
        OmegaConf.update(root, path, OmegaConf.structured(options), merge=False)
    return root


def _find_named_nodes(given: dict[str, Any]) -> Iterator[tuple[str, type]]:
    """Path and registered dataclass of every node that has a `name`, outer ones first."""
    for path in NAMED_NODES:
        node: Any = given
        for part in path.split("."):
            node = node.get(part) if isinstance(node, dict) else None
        if isinstance(node, dict) and "name" in node:
            if node["name"] == MISSING:
                raise ConfigError(f"{path}.name: a value is needed; give {path}.name=VALUE")
            yield path, registry.lookup(path.replace(".", "/"), node["name"], f"{path}.name").options
    yield from _find_metrics(given)


def _find_metrics(given: dict[str, Any]) -> Iterator[tuple[str, type]]:
    """Path and registered dataclass of every judge: its key is its name."""
    metrics = given.get("metrics") or {}
    if not isinstance(metrics, dict):
        raise ConfigError(f"metrics={metrics}: the names of judges and their options are needed")
    for name, options in metrics.items():
        if not isinstance(options, dict):
            raise ConfigError(f"metrics.{name}={options}: its options are needed; to leave it out: ~metrics.{name}")
        yield f"metrics.{name}", registry.lookup("metric", name, "metrics").options
