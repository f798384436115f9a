"""Finds the calibration that fits a run, among the user's own files and the shipped ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ...config.paths import PACKAGE
from ...config.schema import Config
from ...errors import ConfigError, Unfit
from ...inputs.files import resolve_path
from .data import Calibration, Key, build_key, compare_keys, format_key, identify_model
from .file import load, load_key

SHIPPED = PACKAGE / "calibrations"
UNQUANTIZED = "made without quantization"
Difference = tuple[str, str, str]
"""Name, available value, wanted value."""
WAY_OUT = "python -m wavespeed_runner calibrate with this run's overrides, without those of cache, makes one"


def find_calibration(
    config: Config,
    purpose: str,
    *,
    exact: bool = False,
    has: Callable[[Calibration], bool] = lambda calibration: True,
    way_out: str = WAY_OUT,
) -> tuple[str, Calibration]:
    """The calibration of this run, and where it comes from.

    A file that `cache.calibration` names is the only one considered. Otherwise the user's own calibrations
    (`<outputs>/calibrations/`) come before the shipped ones. Quantization rounds what a calibration has recorded, so
    a quantized run may use one that was made without, if there is none of its own; that is said.

    Args:
        config: of the run.
        purpose: what needs the calibration: how the error message begins.
        exact: take none that was made without quantization for a quantized run.
        has: see `find_by_key`.
        way_out: see `find_by_key`.

    Raises:
        Unfit: none fits; the message says how the nearest one differs.
        ConfigError: the file that `cache.calibration` names cannot be read.
    """
    key = build_key(config)
    if config.cache.calibration is None:
        return find_by_key(
            config, key, purpose, exact=exact, has=lambda found: bool(found.sigmas) and has(found), way_out=way_out
        )
    where, calibration = load_named(config.cache.calibration, key, exact=exact)
    if not calibration.sigmas:
        raise Unfit(f"cache.calibration={where}: it has fitted samplers only, nothing that a cache needs; {WAY_OUT}")
    return where, calibration


def find_by_key(
    config: Config,
    key: Key,
    purpose: str,
    *,
    exact: bool = False,
    has: Callable[[Calibration], bool] = lambda calibration: True,
    way_out: str = WAY_OUT,
) -> tuple[str, Calibration]:
    """The same for any key.

    Args:
        config: of the run; says where the user's own calibrations lie.
        key: see `build_key`.
        purpose: see `find_calibration`.
        exact: see `find_calibration`.
        has: whether a calibration of this key has what is needed; others are passed over.
        way_out: how the error message ends.

    Raises:
        Unfit: none fits; the message says how the nearest one differs.
    """
    near: list[tuple[Path, list[Difference]]] = []
    unquantized: Path | None = None
    for path, available in _list_calibrations(config):
        differences = compare_keys(key, available)
        if not differences:
            if has(calibration := load(path)):
                return _format_path(path), calibration
        elif not exact and _is_unquantized(differences, available) and has(load(path)):
            unquantized = unquantized or path
        elif identify_model(available) == identify_model(key):
            near.append((path, differences))
    if unquantized:
        return f"{_format_path(unquantized)}, {UNQUANTIZED}", load(unquantized)
    nearest = "there is none for this model"
    if near:
        path, differences = min(near, key=lambda entry: len(entry[1]))
        nearest = f"the nearest one, {_format_path(path)}, does not fit: {_format_differences(differences)}"
    raise Unfit(f"{purpose} for {format_key(key)}; {nearest}; {way_out}")


def load_named(
    named: str, key: Key, *, exact: bool = False, name: str = "cache.calibration"
) -> tuple[str, Calibration]:
    """The calibration in a file that a config names, if it is for this key; and where it comes from.

    Raises:
        Unfit: it is for another run.
        ConfigError: it cannot be read.
    """
    try:
        path = resolve_path(named)
    except ConfigError as error:
        raise ConfigError(f"{name}={error}") from None
    if not path.exists():
        raise ConfigError(f"{name}={named}: no such file; give another, or {name}=null, which looks for one that fits")
    available = load_key(path)
    differences = compare_keys(key, available)
    if not exact and _is_unquantized(differences, available):
        return f"{named}, {UNQUANTIZED}", load(path)
    if differences:
        raise Unfit(f"{name}={named}: it does not fit this run: {_format_differences(differences)}; {WAY_OUT}")
    return named, load(path)


def _is_unquantized(differences: Sequence[Difference], available: Key) -> bool:
    """True if a calibration differs from a quantized run only in being made without quantization."""
    names = [name.partition(".")[0] for name, _, _ in differences]
    return "quant" not in available and set(names) == {"quant"}


def _list_calibrations(config: Config) -> list[tuple[Path, Key]]:
    """The user's own calibrations, then the shipped ones. Other YAML files in these folders are ignored."""
    entries = []
    for folder in (Path(config.outputs) / "calibrations", SHIPPED):
        for path in sorted(folder.glob("*.yaml")):
            try:
                entries.append((path, load_key(path)))
            except ConfigError:
                continue
    return entries


def _format_path(path: Path) -> str:
    """The path as a record may have it: shipped files go by their name, because their path differs by machine."""
    return f"{path.stem} (shipped)" if path.parent == SHIPPED else str(path)


def _format_differences(differences: Sequence[Difference]) -> str:
    return ", ".join(f"it is for {name}={available}, this run has {wanted}" for name, available, wanted in differences)
