"""Reads what `tune` may try: `conf/tune/NAME.yaml`, or one of the user's own in the folder of `--config-dir`.

    extends: quick                          # another space, whose ladders are tried too
    prepare: calibrate                      # once, where the model has no calibration
    ladders:
      NAME:
        set: {cache: fbcache}               # overrides of every setting of the ladder
        choose: {cache/predictor: [reuse, taylor]}
        vary: {cache.residual_diff_threshold: {from: 0.8, to: 0.02, count: 12}}
    also: {quant: [int8_dq]}                # on top of the best

A ladder is a list of settings in which one number goes from fast to slow. `vary` gives that number as a list, as
`{from, to, count}` in equal ratios, or as `{of_steps: [LOW, HIGH]}`: whole numbers, by shares of the model's steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

from ..config.paths import SPACES
from ..errors import ConfigError, did_you_mean
from ..inputs.files import InputError, is_within, read_text
from ..inputs.yaml_documents import parse_yaml
from .space_values import Scalar, read_key, read_list, read_mapping, read_scalar, read_values, refuse_unknown

IMAGES = 64
"""Prompts that are used unless others are asked for."""
KEYS = ("extends", "prepare", "ladders", "also")
LADDER_KEYS = ("set", "choose", "vary")
PREPARE = ("calibrate",)
MOST_BYTES, MOST_COMBINATIONS = 2**16, 4096
MOST_SETTINGS, MOST_EXTENDED = 2000, 8
"""Settings that are planned, which takes about 20 ms each, and spaces that extend each other."""
FEW = 12
"""A family with no more ladders is scouted whole; of others Optuna chooses."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """Ladders that differ only in what they choose."""

    name: str
    set: dict[str, Scalar]
    choose: dict[str, list[Scalar]]
    key: str
    """What varies along a ladder."""
    values: list[Scalar]
    """From the fastest to the slowest."""

    @property
    def size(self) -> int:
        """How many ladders it has."""
        return prod(map(len, self.choose.values()))

    def combinations(self) -> Iterator[dict[str, Scalar]]:
        """Every choice, the first values of all first."""
        for values in product(*self.choose.values()):
            yield dict(zip(self.choose, values, strict=True))

    def settings(self, chosen: Mapping[str, Scalar]) -> list[dict[str, Scalar]]:
        """The settings of one ladder, from the fastest to the slowest."""
        return [{**self.set, **chosen, self.key: value} for value in self.values]


@dataclass(frozen=True, kw_only=True)
class Space:
    """Everything that may be tried."""

    name: str
    families: list[Family]
    also: dict[str, list[Scalar]] = field(default_factory=dict)
    """Tried on top of the best settings, one value at a time."""
    calibrate: bool = False
    """Whether to make a calibration where the model has none."""


def read_space(name: str, config_dir: str | None, steps: int) -> Space:
    """Reads a space by its name.

    Args:
        name: of a file in `tune/`, without `.yaml`.
        config_dir: the user's folder of configs.
        steps: of the model's full run.

    Raises:
        ConfigError: there is none, or something in it is wrong.
    """
    merged = _merge(name, config_dir, seen=())
    where = f"space={name}"
    ladders = read_mapping(merged.get("ladders"), f"{where}: ladders")
    if not ladders:
        raise ConfigError(f"{where}: ladders: there is none; at least one is needed")
    families = [_read_family(str(key), value, f"{where}: ladders.{key}", steps) for key, value in ladders.items()]
    count = sum(family.size * len(family.values) for family in families if family.size <= FEW)
    if count > MOST_SETTINGS:
        raise ConfigError(
            f"{where}: {count} settings; at most {MOST_SETTINGS} are planned: fewer values, or choose less"
        )
    also = {
        read_key(key, f"{where}: also"): read_list(values, f"{where}: also.{key}")
        for key, values in read_mapping(merged.get("also", {}), f"{where}: also").items()
    }
    prepare = merged.get("prepare")
    if prepare not in (None, *PREPARE):
        raise ConfigError(f"{where}: prepare={prepare}: not known; {', '.join(PREPARE)}, or leave it out")
    return Space(name=name, families=families, also=also, calibrate=prepare is not None)


def list_spaces(config_dir: str | None) -> list[str]:
    """Names of the spaces that there are."""
    folders = [SPACES, *([Path(config_dir) / "tune"] if config_dir else [])]
    return sorted({file.stem for folder in folders for file in folder.glob("*.yaml")})


def _merge(name: str, config_dir: str | None, seen: tuple[str, ...]) -> dict[str, Any]:
    """The content of a space, with what it extends."""
    data = _read_file(name, config_dir)
    base = data.pop("extends", None)
    if base is None:
        return data
    if not isinstance(base, str) or base in (*seen, name) or len(seen) >= MOST_EXTENDED:
        raise ConfigError(
            f"space={name}: extends={base!s:.60}: the name of another space is needed, no circle, and no more than "
            f"{MOST_EXTENDED} in a row"
        )
    merged = _merge(base, config_dir, (*seen, name))
    for key, value in data.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = {**merged[key], **value} if both else value
    return merged


def _read_file(name: str, config_dir: str | None) -> dict[str, Any]:
    known = list_spaces(config_dir)
    if name not in known:
        raise ConfigError(f"space={name}: no such space{did_you_mean(name, known)}; your own: DIR/tune/{name}.yaml")
    shipped, own = SPACES / f"{name}.yaml", Path(config_dir or ".") / "tune" / f"{name}.yaml"
    if config_dir is not None and shipped.is_file() and own.is_file():
        raise ConfigError(f"space={name}: {own} would never be read, the shipped space has this name; rename it")
    path = shipped if shipped.is_file() else own
    try:
        if config_dir is not None and path == own and not is_within(own, [config_dir]):
            raise ConfigError(f"space={name}: {own} leads out of {config_dir}; copy the file there")
        data = parse_yaml(read_text(path, MOST_BYTES))
    except ConfigError:
        raise
    except (InputError, OSError, ValueError) as error:
        raise ConfigError(f"space={name}: {path}: {error}") from None
    except Exception as error:  # PyYAML's own
        raise ConfigError(f"space={name}: {path}: not YAML: {error}") from None
    content = read_mapping(data, f"space={name}")
    refuse_unknown(content, KEYS, f"space={name}")
    return content


def _read_family(name: str, data: Any, where: str, steps: int) -> Family:
    content = read_mapping(data, where)
    refuse_unknown(content, LADDER_KEYS, where)
    vary = read_mapping(content.get("vary"), f"{where}.vary")
    if len(vary) != 1:
        raise ConfigError(f"{where}.vary: one key is needed, whose values go from fast to slow; {len(vary)} are given")
    ((key, values),) = vary.items()
    chosen = {
        read_key(key, f"{where}.choose"): read_list(values, f"{where}.choose.{key}")
        for key, values in read_mapping(content.get("choose", {}), f"{where}.choose").items()
    }
    if (count := prod(map(len, chosen.values()))) > MOST_COMBINATIONS:
        raise ConfigError(f"{where}.choose: {count} combinations; at most {MOST_COMBINATIONS}")
    set_ = {
        read_key(key, f"{where}.set"): read_scalar(value, f"{where}.set.{key}")
        for key, value in read_mapping(content.get("set", {}), f"{where}.set").items()
    }
    key = read_key(key, f"{where}.vary")
    for twice in ({*chosen} & {*set_}) | ({key} & {*chosen, *set_}):
        raise ConfigError(f"{where}: {twice} is given twice; once in set, choose or vary")
    return Family(name=name, set=set_, choose=chosen, key=key, values=read_values(values, f"{where}.vary.{key}", steps))
