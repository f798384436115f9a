"""Writes a measured run as a small experiment file that anyone can run, with what was measured as data in it.

Only what differs from the defaults is in the file, and composing it was checked to give the config of the record.
"""

from __future__ import annotations

import re
from pathlib import Path

from ..errors import ConfigError, make_printable
from ..records.file import read_record
from ..records.names import model_name, setting_name
from ..records.record import Record
from ..storage.atomic import write_text

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*", re.ASCII)


def experiment_of(
    run: Path, *, name: str | None = None, out: str | None = None, config_dir: str | None = None
) -> tuple[str, str]:
    """The experiment that a completed run makes.

    Args:
        run: its folder or its `record.json`.
        name: of the experiment; None: after the file `out`, or after model and setting.
        out: where it will be written, which must not exist; `-` or None for nowhere in particular.
        config_dir: the run's `--config-dir`; None: as the sweep around the run says.

    Returns:
        Name and text.

    Raises:
        ConfigError: no completed run, a name that is not allowed, or the target exists.
    """
    path = record_path(run)
    record, folder = completed(path), _config_dir(path, config_dir)
    name = name or (Path(out).stem if out not in (None, "-") else _name(record))
    _check_name(name)
    target = Path(out or f"experiment/{name}.yaml")
    if out != "-" and target.exists():
        raise ConfigError(f"out={target}: there already; give another name=NAME or out=FILE, or remove it")
    return name, exported(record, name, folder)


def write_experiment(target: Path, text: str) -> None:
    """Writes the file. Raises RunError where that is impossible."""
    write_text(target, text, way_out="choose another place with out=FILE")


def exported(record: Record, name: str, config_dir: Path | None = None) -> str:
    """The experiment file of a completed record.

    Args:
        record: of the run.
        name: by which it will be chosen.
        config_dir: the `--config-dir` of the run, if it had one.

    Raises:
        ConfigError: the run cannot be written as an experiment.
    """
    from .claim import claim_of
    from .claim_text import claim_text, headline
    from .to_experiment import as_experiment, yaml_text

    document, config = as_experiment(record, config_dir)
    claim = claim_of(record)
    head, _, body = yaml_text(document).partition("\n")
    about = [f"# {make_printable(line)}" for line in headline(record, config, claim, name)]
    return "\n".join([head, *about, body]).rstrip() + "\n" + claim_text(claim)


def record_path(path: Path) -> Path:
    """Raises ConfigError where no record is."""
    found = path / "record.json" if path.is_dir() else path
    if not found.is_file():
        sweep = (path / "sweep.json").exists() or (path / "0").is_dir()
        which = (
            f"one job of the sweep is needed, such as {path / '0'}"
            if sweep
            else "no record there; give the folder of a run, or its record.json"
        )
        raise ConfigError(f"{path}: {which}")
    return found


def completed(path: Path) -> Record:
    """The record, if it is a whole one.

    Raises:
        ConfigError: not a record, or one of a run that did not get to its end.
    """
    record = read_record(path)
    if record.status != "completed":
        why = (record.error and record.error.message) or "it did not get to its end"
        raise ConfigError(
            f"{path}: status {record.status} ({why}): only a completed run has something to claim; run it again"
        )
    if not record.samples:
        raise ConfigError(f"{path}: no image in it, so there is nothing to claim")
    return record


def _config_dir(path: Path, given: str | None) -> Path | None:
    """What was typed, else what the sweep around a job says."""
    import json

    if given is None:
        sweep = path.absolute().parent.parent / "sweep.json"
        try:
            given = json.loads(sweep.read_text(encoding="utf-8")).get("config_dir")
        except (OSError, ValueError, AttributeError):
            return None
    if given is not None and not Path(given).is_dir():
        raise ConfigError(f"config_dir={given}: no such folder; it was the run's --config-dir")
    return Path(given) if given is not None else None


def _name(record: Record) -> str:
    """`demo_fbcache`: model and setting."""
    words = re.findall(r"[a-z0-9]+", f"{model_name(record.config['model'])} {setting_name(record)}".lower())
    return "_".join(words)


def _check_name(name: str) -> None:
    from ..config.paths import CONF

    if not NAME.fullmatch(name):
        raise ConfigError(f"name={name}: letters, digits, _ and - are allowed")
    if (CONF / "experiment" / f"{name}.yaml").exists():
        raise ConfigError(f"name={name}: an experiment of this name is shipped and would be chosen; give another")
